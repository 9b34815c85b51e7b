"""Pointwise blocks by Triton: the launches of :mod:`.pointwise_kernels`."""

import math
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from . import pointwise_kernels as kernels
from .block import Fold, has_tensor_cores
from .launch import ceil_div, float32, launch, padded, split
from .reference import state_sizes

__all__ = ['pointwise_backward', 'pointwise_forward']

PAD = 8  # columns beyond C in a product, of which one is used: keeps rows aligned


def _precision(x: Tensor) -> str:
    """How float32 is multiplied."""
    return 'tf32' if has_tensor_cores(x) and x.dtype == torch.float32 else 'ieee'


def _tile(channels: int, x: Tensor) -> int:
    """Channels of a tile; without tensor cores, products need the registers."""
    return min(max(16, padded(channels)), 128 if has_tensor_cores(x) else 64)


class _Positions(NamedTuple):
    """How the positions of maps are cut into chunks of BP within an image.

    A channels_last map is one image; ``units * UNIT`` is an image's size, so that a compiler knows
    how rows are aligned.
    """

    constants: dict
    units: int
    chunks: int


def _positions(x: Tensor, longest: int = 64) -> _Positions:
    images, area = x.shape[0], x.shape[2] * x.shape[3]
    nhwc = not x.is_contiguous()
    if nhwc:
        images, area = 1, images * area
    # The longest chunk, unless a shorter one leaves much less of its last one unused.
    size = min((longest, 32), key=lambda size: ceil_div(area, size) * size * (1 + 2 / size))
    unit = 1 if nhwc else math.gcd(area, 16)
    return _Positions(dict(NHWC=nhwc, PRECISION=_precision(x), UNIT=unit, BP=size), area // unit,
                      images * ceil_div(area, size))


def pointwise_forward(x: Tensor, params: Tensor, channels: int,
                      fold: Fold) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, what the backward pass needs, and the norms' batch statistics.

    Args:
        x: (B, C, H, W), contiguous or channels_last.
        params: Flat float32: weights, gammas, betas.
        channels: Of the output, O.
        fold: Of the block.

    Returns:
        y; the folded kernel (O, C) in x's dtype; a state of float32; (2, b, O): means, unbiased
        variances.
    """
    size, n, area = x.shape[1], x.numel() // x.shape[1], x.shape[2] * x.shape[3]
    b, k = fold.norms, fold.convs
    positions = _positions(x)
    sizes = state_sizes(size, channels, fold)
    state = float32(x, sum(sizes))
    shift, rest, scale, inv, products = state.split(sizes)

    launch(kernels.sample_mean, (ceil_div(size, 8),), x, shift, size, area, n,
           NHWC=not x.is_contiguous(), BLOCK=8)
    side = _tile(size, x)
    part, rows, splits = _outer(x, x, x, shift, size, side, side, True, False)
    cov = float32(x, size, size)
    blocks = ceil_div(size, 16)
    launch(kernels.covariance, (blocks, blocks), part, rows, cov, rest, size, n, splits, TILE=side,
           BLOCK=16)
    torch.mm(params[:k * channels * size].view(-1, size), cov, out=products.view(-1, size))
    kernel = torch.empty((channels, size), dtype=x.dtype, device=x.device)
    bias = float32(x, channels)
    stats = float32(x, 2, b, channels)
    launch(kernels.fold_forward, (channels,), params, products, cov, rest, shift, kernel, bias,
           scale, inv, stats, channels, size, n, fold.eps, **_branches(fold),
           BLOCK=min(256, padded(size)))
    y = torch.empty((x.shape[0], channels, *x.shape[2:]), dtype=x.dtype, device=x.device,
                    memory_format=(torch.contiguous_format if x.is_contiguous()
                                   else torch.channels_last))
    side = _tile(channels, x)
    grid = (positions.chunks * ceil_div(channels, side),)
    launch(kernels.product_bias_relu, grid, x, kernel, bias, y, size, channels, positions.units,
           RELU=fold.relu, **positions.constants, BO=side, BC=32, **_schedule(x, False))
    return y, kernel, state, stats


def _branches(fold: Fold) -> dict:
    constants = fold.branches()
    del constants['SCALE']
    return constants


def _schedule(x: Tensor, wide: bool) -> dict:
    """Warps, and stages by what shared memory small GPUs have."""
    small = x.element_size() < 4 and not wide
    return dict(num_warps=8 if wide else 4, num_stages=3 if small else 2)


def _outer(a: Tensor, y: Tensor, x: Tensor, shift: Tensor, channels: int, side: int, other: int,
           gram: bool, relu: bool) -> Tuple[Tensor, Tensor, int]:
    """Launch ``outer_sums``: partial sums, partial row sums, how many."""
    size, positions = x.shape[1], _positions(x, 64 if x.element_size() == 2 else 32)
    tiles = ceil_div(channels, side) * ceil_div(size, other)
    splits, per = split(positions.chunks, 4 * tiles)
    part = float32(x, splits, channels, size)
    rows = float32(x, splits, channels)
    launch(kernels.outer_sums, (tiles, splits), a, y, x, shift, part, rows, channels, size,
           positions.units, positions.chunks, per, GRAM=int(gram),
           CENTRED=gram or x.dtype == torch.float32, RELU=relu, **positions.constants, BA=side,
           BC=other, **_schedule(x, side * other >= 128 * 128))
    return part, rows, splits


def pointwise_backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, kernel: Tensor,
                       state: Tensor, fold: Fold,
                       needs_x: bool = True) -> Tuple[Optional[Tensor], Tensor]:
    """Gradients of x and of the flat parameters, from that of the output.

    Args:
        x: As in the forward pass.
        grad: (B, O, H, W), in x's dtype and layout.
        y: The output; anything without ReLU.
        params: As in the forward pass.
        kernel: From the forward pass.
        state: From the forward pass.
        fold: Of the block.
        needs_x: Whether the gradient of x is wanted; ``None`` otherwise.
    """
    size, n = x.shape[1], x.numel() // x.shape[1]
    channels, k = kernel.shape[0], fold.convs
    positions, half = _positions(x), x.dtype != torch.float32
    shift, rest, scale, inv, products = state.split(state_sizes(size, channels, fold))

    side, other = (_tile(c, x) for c in (channels, size))
    part, rows, splits = _outer(grad, y, x, shift, channels, side, other, False, fold.relu)
    grads = float32(x, params.numel())
    scaled = float32(x, fold.norms * channels, size + PAD)
    launch(kernels.fold_backward, (channels,), part, rows, params, products, rest, shift, scale,
           inv, grads, scaled, channels, size, n, splits, **_branches(fold), CENTRED=not half,
           PAD=PAD, BLOCK=min(256, padded(size)))
    if not needs_x:
        return None, grads
    product = float32(x, size + PAD, size)
    torch.mm(scaled[:k * channels].t(), params[:k * channels * size].view(-1, size), out=product)
    quad = torch.empty((size, size), dtype=x.dtype, device=x.device)
    vectors = float32(x, 2, size)
    launch(kernels.finish_quadratic, (size,), product, scaled, rest, shift, quad, vectors[0],
           vectors[1], channels, size, K=k, SKIP=int(fold.skip), CENTRED=not half, PAD=PAD,
           BLOCK=min(256, padded(size)))
    dx = torch.empty_like(x)
    side = other
    grid = (positions.chunks * ceil_div(size, side),)
    launch(kernels.input_grad, grid, x, grad, y, kernel, quad, vectors[0], vectors[1], shift, dx,
           size, channels, positions.units, RELU=fold.relu, CENTRED=not half,
           **positions.constants, BC=side, BK=32, **_schedule(x, False))
    return dx, grads
