"""Turn a segmentor's logits into labels at the image's size, in plain NumPy."""

from typing import Optional, Tuple

import numpy as np


def label_map(logits: np.ndarray, size: Tuple[int, int], align_corners: bool = False,
              threshold: Optional[float] = None) -> np.ndarray:
    """Upsample bilinearly, one class at a time, and keep the best class of each pixel.

    Args:
        logits: (C, h, w).
        size: Height H and width W of the result.
        align_corners: The head's setting; see :func:`torch.nn.functional.interpolate`.
        threshold: For one channel: a pixel with a higher probability is of class 1.

    Returns:
        Labels (H, W), int64.
    """
    rows = interpolation(logits.shape[1], size[0], align_corners)
    columns = interpolation(logits.shape[2], size[1], align_corners)
    if threshold is not None:
        return (1 / (1 + np.exp(-(rows @ logits[0] @ columns.T))) > threshold).astype(np.int64)
    best = np.full(size, -np.inf, dtype=np.float32)
    labels = np.zeros(size, dtype=np.int64)
    for label, plane in enumerate(logits):
        plane = rows @ plane @ columns.T
        better = plane > best
        labels[better], best[better] = label, plane[better]
    return labels


def interpolation(source: int, target: int, align_corners: bool = False) -> np.ndarray:
    """The matrix (target, source) that interpolates linearly along one axis."""
    if align_corners:
        position = np.arange(target) * ((source - 1) / max(target - 1, 1))
    else:
        position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = position.clip(0, source - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, source - 1)
    matrix = np.zeros((target, source), dtype=np.float32)
    pixels = np.arange(target)
    matrix[pixels, low] = 1 - (position - low)
    matrix[pixels, high] += position - low
    return matrix
