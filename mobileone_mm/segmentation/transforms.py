"""Augmentations in cvnets' segmentation recipe that mmsegmentation lacks."""

from typing import Any, Dict, Tuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageFilter

__all__ = ['RandomGaussianBlur']


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Blur the image; cvnets' recipes call this ``random_gaussian_noise``.

    Required and modified key: ``img``, uint8 (H, W, C).

    Args:
        prob: Probability of blurring. Defaults to 0.5, cvnets' default.
        radius: Range of the Gaussian's standard deviation in pixels, drawn uniformly. Defaults to
            (0, 1), cvnets' range.

    Raises:
        ValueError: ``prob`` is not in [0, 1], or ``radius`` is not a range of non-negative numbers.
    """

    def __init__(self, prob: float = 0.5, radius: Tuple[float, float] = (0., 1.)) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be in [0, 1], got {prob}')
        if len(radius) != 2 or not 0 <= radius[0] <= radius[1]:
            raise ValueError(f'radius must be (low, high) with 0 <= low <= high, got {radius}')
        self.prob, self.radius = prob, radius

    @cache_randomness
    def _draw(self) -> Tuple[bool, float]:
        return np.random.rand() < self.prob, np.random.uniform(*self.radius)

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Blur ``results['img']``, with probability ``prob``."""
        blur, radius = self._draw()
        if blur:
            image = Image.fromarray(results['img']).filter(ImageFilter.GaussianBlur(radius))
            results['img'] = np.asarray(image)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, radius={self.radius})'
