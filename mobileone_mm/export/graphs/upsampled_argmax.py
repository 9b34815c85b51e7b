"""The last step of a segmentor, for runtimes: upsample the logits and take the best class.

Shapes: N images, C classes, maps of h x w cells, images of H x W pixels.

Bilinear interpolation is a product with a sparse matrix for each axis. In this form, with classes
as the last axis, runtimes need neither a strided search over C planes of H x W values nor a
reordering of them, which took a fifth of DeepLabV3's time on ADE20K in ONNX Runtime. The graph
upsamples a few rows at a time, whose values never leave the processor's cache.
"""

from math import ceil
from typing import Iterator, Sequence, Tuple

import torch
from torch import Tensor

__all__ = ['PICKS', 'interpolation_matrix', 'upsampled_argmax']

PICKS = ('argmax', 'topk', 'max')
"""Operators that find the best class: the faster ones in ONNX Runtime and in OpenVINO, and the
largest key, which is faster in ONNX Runtime but rounds the logits: see :func:`_largest_key`."""

FEW = 32  # for so few classes, ONNX Runtime finds the index as fast as the value
BLOCK = 2 ** 18  # values that are upsampled at a time: 1 MB, half of a large core's cache
WEIGHT_STEPS = 64  # of the interpolation between two cells, in keys, where no number is exact


def upsampled_argmax(logits: Tensor, size: Sequence[int], align_corners: bool = False,
                     pick: str = 'argmax') -> Tensor:
    """Compute ``F.interpolate(logits, size, mode='bilinear').argmax(1)``, up to rounding.

    Args:
        logits: (N, C, h, w).
        size: H and W.
        align_corners: See ``F.interpolate``.
        pick: One of ``PICKS``; 'max' is 'argmax' for few classes.

    Returns:
        (N, H, W), int64.
    """
    if pick == 'max' and int(logits.shape[1]) > FEW:
        return _largest_key(logits, size, align_corners)
    maps, width = _upsampled_rows(logits, size, align_corners)
    return torch.cat([
        block.argmax(-1) if pick == 'argmax' else block.topk(1, -1)[1].squeeze(-1)
        for block in _upsampled_blocks(maps, width)], 1)


def _largest_key(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """See :func:`upsampled_argmax`, with the largest value in place of its index.

    To find the largest of many values takes runtimes a third of the time that its index takes. So
    the index is made part of the value: a key is an integer whose remainder by C is the class,
    counted from the last one, since the first of equal ones wins, and whose quotient is the logit.
    All sums are integers below 2 ** 24, which float32 holds exactly. For 150 classes at stride 16,
    whose weights have 32 steps, 3,494 steps remain for the logits, fourteen for each of an 8-bit
    one.
    """
    classes = int(logits.shape[1])  # a tensor when traced
    stride, rest = divmod(int(size[1]), int(logits.shape[3]))
    weight_steps = WEIGHT_STEPS if rest or align_corners else 2 * stride
    steps = 2 ** 24 // (classes * weight_steps) - 1
    low, high = (extreme((1, 2, 3), keepdim=True) for extreme in (logits.amin, logits.amax))
    maps = (logits - low) * (steps / torch.maximum(high - low, torch.full_like(low, 1e-6)))
    maps, width = _upsampled_rows(maps, size, align_corners)
    places = torch.arange(classes - 1, -1, -1).to(logits).expand_as(maps[:, :, :1])
    keys = torch.cat([maps.round() * classes, places], 2)
    width = (width * weight_steps).round()
    width = torch.cat([width, torch.ones_like(width[:, :1])], 1)
    best = torch.cat([block.amax(-1) for block in _upsampled_blocks(keys, width)], 1)
    return (classes - 1 - torch.fmod(best, classes)).long()


def _upsampled_rows(maps: Tensor, size: Sequence[int], align_corners: bool
                    ) -> Tuple[Tensor, Tensor]:
    """Maps (N, C, h, w) upsampled in height, (N, H, w, C), and the matrix (W, w) for the width."""
    height, width = (interpolation_matrix(inner, outer, align_corners).to(maps)
                     for inner, outer in zip(maps.shape[-2:], size))
    maps = maps.permute(0, 2, 3, 1)  # (N, h, w, C)
    return torch.matmul(height, maps.flatten(2)).unflatten(2, maps.shape[2:]), width


def _upsampled_blocks(maps: Tensor, width: Tensor) -> Iterator[Tensor]:
    """The product of a matrix (W, w) and maps (N, H, w, C), a few of the H rows at a time."""
    values = int(width.shape[0]) * int(maps.shape[3])  # of a row; tensors when traced
    for block in maps.chunk(ceil(int(maps.shape[1]) / max(BLOCK // values, 1)), 1):
        yield torch.matmul(width, block)


def interpolation_matrix(inner: int, outer: int, align_corners: bool = False) -> Tensor:
    """The (outer, inner) matrix of bilinear interpolation along one axis; its rows sum to 1."""
    target = torch.arange(outer, dtype=torch.float32)
    if align_corners:
        source = target * ((inner - 1) / max(outer - 1, 1))
    else:
        source = ((target + .5) * (inner / outer) - .5).clamp(min=0)
    source = source.clamp(max=inner - 1)
    cells = torch.arange(inner, dtype=torch.float32)
    return (1 - (source.unsqueeze(1) - cells).abs()).clamp(min=0)
