"""Launch the kernels of :mod:`.pointwise_kernels`: pointwise blocks on Triton."""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from . import pointwise_kernels as kernels
from .block import Fold, tensor_cores
from .launch import ceil_div, float32, launch, split
from .reference import state_sizes

__all__ = ['pointwise_backward', 'pointwise_forward']

BLOCK = 128  # channels that a program of a fold handles at once
PAD = 8  # columns beyond C in a product: one is used, the rest keep rows aligned


def _precision(x: Tensor) -> str:
    """The precision of float32 products."""
    return 'tf32' if tensor_cores(x) and x.dtype == torch.float32 else 'ieee'


def _tile(x: Tensor, sums: bool = False) -> int:
    """Channels of a tile: fewer without tensor cores, where products need registers.

    ``sums`` over positions have square tiles and need fewer on Ampere too.
    """
    return 128 if tensor_cores(x) > (8 if sums else 0) else 64


class _Positions(NamedTuple):
    """How the positions of maps are split into chunks of BP within an image.

    A channels_last map counts as one image. ``units * UNIT`` is the size of an image, which tells
    the compiler how rows are aligned.
    """

    constants: dict
    units: int
    chunks: int


def _positions(x: Tensor, size: int = 64) -> _Positions:
    images, area = x.shape[0], x.shape[2] * x.shape[3]
    nhwc = not x.is_contiguous()
    if nhwc:
        images, area = 1, images * area
    unit = 1 if nhwc or area % 4 else 4
    return _Positions(dict(NHWC=nhwc, PRECISION=_precision(x), UNIT=unit, BP=size), area // unit,
                      images * ceil_div(area, size))


def covariance(x: Tensor, shift: Tensor, rest: Tensor) -> Tensor:
    """The covariance of the input, (C, C); ``shift`` and ``rest`` get two parts of its mean."""
    size, n, area = x.shape[1], x.numel() // x.shape[1], x.shape[2] * x.shape[3]
    launch(kernels.sample_mean, (ceil_div(size, 8),), x, shift, size, area, n,
           NHWC=not x.is_contiguous(), BLOCK=8)
    side = _tile(x, sums=True)
    part, rows = outer_sums(x, x, x, shift, size, True, False)
    cov = float32(x, size, size)
    blocks = ceil_div(size, 16)
    launch(kernels.covariance, (blocks, blocks), part, rows, cov, rest, size, n, len(part),
           side, BLOCK=16)
    return cov


def multiply(x: Tensor, kernel: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """The output."""
    channels, size = kernel.shape
    positions, side = _positions(x), _tile(x)
    y = torch.empty((x.shape[0], channels, *x.shape[2:]), dtype=x.dtype, device=x.device,
                    memory_format=(torch.contiguous_format if x.is_contiguous()
                                   else torch.channels_last))
    grid = (positions.chunks * ceil_div(channels, side),)
    launch(kernels.product_bias_relu, grid, x, kernel, bias, y, size, channels, positions.units,
           RELU=relu, **positions.constants, BO=side, BC=32, **_schedule(x, False))
    return y


def pointwise_forward(x: Tensor, params: Tensor, channels: int,
                      fold: Fold) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, what the backward pass needs, and the norms' batch statistics.

    Args:
        x: (B, C, H, W), contiguous or channels_last.
        params: Flat float32: weights, gammas, betas.
        channels: Channels of the output, O.
        fold: The block's branches.

    Returns:
        y; the folded kernel (O, C) in x's dtype; the state (:func:`.reference.state_sizes`);
        (2, b, O): means, unbiased variances.
    """
    size, n = x.shape[1], x.numel() // x.shape[1]
    sizes = state_sizes(size, channels, fold)
    state = float32(x, sum(sizes))
    shift, rest, scale, inv, products = state.split(sizes)
    cov = covariance(x, shift, rest)
    torch.mm(params[:products.numel()].view(-1, size), cov, out=products.view(-1, size))
    kernel = torch.empty((channels, size), dtype=x.dtype, device=x.device)
    bias = float32(x, channels)
    stats = float32(x, 2, fold.norms, channels)
    launch(kernels.fold_forward, (channels,), params, products, cov, rest, shift, kernel, bias,
           scale, inv, stats, channels, size, n, fold.eps, fold.convs,
           int(fold.skip), BRANCHES=fold.padded, BLOCK=BLOCK)
    return multiply(x, kernel, bias, fold.relu), kernel, state, stats


def _schedule(x: Tensor, sums: bool) -> dict:
    """Warps that the registers allow, and stages that fit the shared memory of small GPUs."""
    if sums:
        return dict(num_warps=4 if tensor_cores(x) == 8 else 8, num_stages=2)
    return dict(num_warps=4, num_stages=3 if x.element_size() < 4 else 2)


def outer_sums(a: Tensor, y: Tensor, x: Tensor, shift: Tensor, channels: int, gram: bool,
               relu: bool) -> Tuple[Tensor, Tensor]:
    """Partial sums of the kernel of that name: (splits, channels, C), and (splits, channels)."""
    # Unaligned rows need registers for the address of each value.
    aligned = not x.is_contiguous() or x.shape[2] * x.shape[3] % 4 == 0
    size, positions = x.shape[1], _positions(x, 64 if x.element_size() == 2 and aligned else 32)
    side = _tile(x, sums=True)
    tiles = ceil_div(channels, side) * ceil_div(size, side)
    splits, per = split(positions.chunks, 4 * tiles)
    part = float32(x, splits, channels, size)
    rows = float32(x, splits, channels)
    launch(kernels.outer_sums, (tiles, splits), a, y, x, shift, part, rows, channels, size,
           positions.units, positions.chunks, per, GRAM=int(gram),
           CENTERED=gram or is_centered(x), RELU=relu, **positions.constants, BA=side, BC=side,
           **_schedule(x, True))
    return part, rows


def is_centered(x: Tensor) -> bool:
    """Whether products in the backward pass use the input minus its shift.

    In half precision that would round it again.
    """
    return x.dtype == torch.float32


def input_grad(x: Tensor, grad: Tensor, y: Tensor, kernel: Tensor, quad: Tensor, vectors: Tensor,
               shift: Tensor, *, relu: bool) -> Tensor:
    """The gradient of x; ``vectors`` are the scales of the rows of ``quad`` and the linear part."""
    channels, size = kernel.shape
    positions, side = _positions(x), _tile(x)
    dx = torch.empty_like(x)
    grid = (positions.chunks * ceil_div(size, side),)
    launch(kernels.input_grad, grid, x, grad, y, kernel, quad, vectors[0], vectors[1], shift, dx,
           size, channels, positions.units, RELU=relu, CENTERED=is_centered(x),
           **positions.constants, BC=side, BK=32, **_schedule(x, False))
    return dx


def pointwise_backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, kernel: Tensor,
                       state: Tensor, fold: Fold, *,
                       needs_x: bool = True) -> Tuple[Optional[Tensor], Tensor]:
    """Like :func:`.function.backward`, for ``grad`` in x's dtype and layout."""
    size, n = x.shape[1], x.numel() // x.shape[1]
    channels, k = kernel.shape[0], fold.convs
    shift, rest, scale, inv, products = state.split(state_sizes(size, channels, fold))
    part, rows = outer_sums(grad, y, x, shift, channels, False, fold.relu)
    grads = float32(x, params.numel())
    scaled = float32(x, fold.norms * channels, size + PAD)
    common = dict(CENTERED=is_centered(x), PAD=PAD, BLOCK=BLOCK)
    branches = k, int(fold.skip)
    launch(kernels.fold_backward, (channels,), part, rows, params, products, rest, shift, scale,
           inv, grads, scaled, channels, size, n, len(part), *branches,
           BRANCHES=fold.padded, **common)
    if not needs_x:
        return None, grads
    product = float32(x, size + PAD, size)
    torch.mm(scaled[:k * channels].t(), params[:products.numel()].view(-1, size), out=product)
    quad = torch.empty((size, size), dtype=x.dtype, device=x.device)
    vectors = float32(x, 2, size)
    launch(kernels.finish_quadratic, (size,), product, scaled, rest, shift, quad, vectors[0],
           vectors[1], channels, size, *branches, **common)
    return input_grad(x, grad, y, kernel, quad, vectors, shift, relu=fold.relu), grads
