"""Feature maps, strides and anchors of SSDLite for an input size."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from ...backbones.archs import resolve_arch
from ...utils.libraries import PreflightError
from .split import CocoSplit

__all__ = ['BASE_SIZE', 'Levels', 'plan_levels', 'too_small']

BASE_SIZE = 320  # of the COCO configs
EXTRA_CHANNELS = (512, 256, 256, 128)  # likewise
# Smallest anchors, in strides: an object of that size holds the centers of two. These are the
# sizes in ssdlite_mobileone_s0_bccd.py and ..._shapes.py, for which it was tuned.
FROM_SCRATCH = (1.75, 2., 1.75, 1.25)


@dataclass(frozen=True)
class Levels:
    """The pyramid of feature maps.

    Attributes:
        out_indices: Stages of the backbone.
        channels: Channels of all maps; the first are the backbone's.
        strides: Distance of neighboring cells, in pixels.
        sizes: The smallest anchor of each map and, last, the largest anchor, in pixels.
        ratios: Aspect ratios of anchors besides 1, the same on all maps.
    """

    out_indices: Tuple[int, ...]
    channels: Tuple[int, ...]
    strides: Tuple[int, ...]
    sizes: Tuple[int, ...]
    ratios: Tuple[int, ...]


def plan_levels(arch: str, size: int, from_scratch: bool) -> Optional[Levels]:
    """The levels for an input of ``size`` x ``size`` pixels.

    Fine-tuning keeps those of the COCO config: strides 16 and 32 and up to four more maps, with
    anchors in proportion to the input. Training from scratch adds stride 8 for small objects and
    leaves out the map of one cell, whose batch norms see next to nothing.

    Args:
        arch: The variant of MobileOne, ``'s0'`` to ``'s4'``.
        size: Side of the input in pixels, a multiple of 32.
        from_scratch: Whether training starts from random weights.

    Returns:
        The levels; None if those of the COCO config fit.

    Raises:
        PreflightError: ``size`` is not a multiple of 32, or is below 64.
    """
    if size < 64 or size % 32:
        raise PreflightError(f'--input-size {size}: expected a multiple of 32, at least 64')
    if size == BASE_SIZE and not from_scratch:
        return None
    out_indices = (1, 2, 3) if from_scratch else (2, 3)
    cells = [size >> (index + 2) for index in out_indices]
    least, most = (2 if from_scratch else 1), len(out_indices) + len(EXTRA_CHANNELS)
    # SSDNeck needs at least one map of its own
    while len(cells) == len(out_indices) or least < cells[-1] and len(cells) < most:
        cells.append(-(-cells[-1] // 2))
    backbone = [resolve_arch(arch).stage_channels[index] for index in out_indices]
    extra = EXTRA_CHANNELS[1:] if from_scratch else EXTRA_CHANNELS
    channels = (*backbone, *(extra * 2)[:len(cells) - len(backbone)])
    strides = tuple(round(size / number) for number in cells)
    sizes = _anchors_in_strides(strides, size) if from_scratch else _anchors(len(cells), size)
    return Levels(out_indices, channels, strides, sizes, (2, ) if from_scratch else (2, 3))


def too_small(train: CocoSplit, size: int, levels: Optional[Levels]) -> List[str]:
    """A note if many boxes are much smaller than the smallest anchor."""
    smallest = levels.sizes[0] if levels else .15 * BASE_SIZE
    share = float(np.mean(train.box_sizes(size) < smallest / 2))
    if share < .25:
        return []
    return [f'{share:.0%} of the boxes are less than half as large as the smallest anchor, '
            f'{smallest:.0f} pixels, at {size}x{size}: many will be missed; a larger --input-size '
            'helps']


def _anchors_in_strides(strides: Tuple[int, ...], size: int) -> Tuple[int, ...]:
    sizes = [stride * factor
             for stride, factor in zip(strides, FROM_SCRATCH + (1.15, ) * len(strides))]
    fit = min(1., .85 * size / sizes[-1])  # below the largest anchor, the whole input
    return (*(round(side * fit) for side in sizes), size)


def _anchors(number: int, size: int) -> Tuple[int, ...]:
    """SSD's rule in mmdet at 320 pixels: 0.15, then 0.3125 to 0.95 in equal steps, then 1."""
    steps = [.3125 + (.95 - .3125) * i / max(1, number - 2) for i in range(number - 1)]
    return tuple(round(size * share) for share in (.15, *steps, 1.))
