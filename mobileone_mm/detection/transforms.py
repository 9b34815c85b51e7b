"""An augmentation of cvnets' detection recipe that mmdetection does differently."""

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes, autocast_box_type

__all__ = ['SSDCrop']

WHOLE = 0.  # the minimum IoU that keeps the whole image


@TRANSFORMS.register_module()
class SSDCrop(BaseTransform):
    """Crop so that some box overlaps the crop enough, as cvnets' ``SSDCroping`` does.

    mmdet's ``MinIoURandomCrop`` requires the overlap of every box, which rules out most crops if
    one box is small. Boxes whose center is outside the crop are dropped, the others clipped to it.

    Required keys: ``img`` (H, W, C), ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``.
    Modified keys: these and ``img_shape``.

    Args:
        min_ious: Values to draw from for the minimum IoU of the crop and the box that overlaps it
            most; 0 stands for the whole image. Defaults to cvnets' values.
        trials: Number of crops to try before another minimum is drawn. Defaults to cvnets' 40.
        min_crop_size: Minimum width and height, relative to the image's. Defaults to cvnets' 0.3.
        min_pixels: Minimum width and height in pixels. Defaults to cvnets' 100.

    Raises:
        ValueError: 0 is not among ``min_ious``, so there may be no crop at all.
    """

    def __init__(self, min_ious: Sequence[float] = (0., .1, .3, .5, .7, .9, 1.), trials: int = 40,
                 min_crop_size: float = 0.3, min_pixels: int = 100) -> None:
        if WHOLE not in min_ious:
            raise ValueError(f'min_ious must contain 0, for the whole image, got {min_ious}')
        self.min_ious, self.trials = tuple(min_ious), trials
        self.min_crop_size, self.min_pixels = min_crop_size, min_pixels

    @autocast_box_type()
    def transform(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Crop ``results['img']`` and its boxes, or leave them as they are."""
        boxes = results['gt_bboxes']
        patch = self._draw(boxes, results['img'].shape[:2]) if len(boxes) else None
        if patch is not None:
            left, top, right, bottom = patch
            inside = _centers_inside(boxes, patch)
            for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
                results[key] = results[key][inside]
            results['gt_bboxes'].translate_((-left, -top))
            results['gt_bboxes'].clip_((bottom - top, right - left))
            results['img'] = results['img'][top:bottom, left:right]
            results['img_shape'] = results['img'].shape[:2]
        return results

    @cache_randomness
    def _draw(self, boxes: HorizontalBoxes, shape: Tuple[int, int]) -> Optional[np.ndarray]:
        """Left, top, right and bottom of a crop, or None for the whole image."""
        size = np.array(shape[::-1])
        while True:
            min_iou = np.random.choice(self.min_ious)
            if min_iou == WHOLE:
                return None
            for _ in range(self.trials):
                width, height = (np.random.uniform(self.min_crop_size, 1, 2) * size).astype(int)
                if min(width, height) < self.min_pixels or not .5 <= height / width <= 2:
                    continue
                corner = (np.random.uniform(size=2) * (size - (width, height))).astype(int)
                patch = np.concatenate((corner, corner + (width, height)))
                overlaps = boxes.overlaps(HorizontalBoxes(patch[None].astype(np.float32)), boxes)
                if overlaps.max() >= min_iou and _centers_inside(boxes, patch).any():
                    return patch

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(min_ious={self.min_ious}, trials={self.trials}, '
                f'min_crop_size={self.min_crop_size}, min_pixels={self.min_pixels})')


def _centers_inside(boxes: HorizontalBoxes, patch: np.ndarray) -> np.ndarray:
    """Which centers are within a crop: (number of boxes, ) bool."""
    centers = boxes.centers.numpy()
    return ((patch[:2] < centers) & (centers < patch[2:])).all(1)
