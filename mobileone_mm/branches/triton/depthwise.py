"""Launch the kernels of :mod:`.depthwise_kernels`: depthwise 3x3 blocks on Triton."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from . import depthwise_kernels as kernels
from .block import Fold
from .launch import ceil_div, float32, launch, split
from .reference import state_sizes

__all__ = ['depthwise_backward', 'depthwise_forward']


def _tile(x: Tensor, size: int) -> dict:
    """Positions x channels of a tile of ``size`` values.

    It is the same for maps of all sizes, since each shape needs a compilation.
    """
    nhwc = not x.is_contiguous()
    return dict(NHWC=nhwc, ROWS=size // 32 if nhwc else 1, COLS=32 if nhwc else size)


def _tiles(count: int, tile: dict) -> int:
    """How many tiles cover ``count`` positions of one channel."""
    return ceil_div(count, tile['ROWS'] if tile['NHWC'] else tile['COLS'])


def _groups(channels: int, tile: dict) -> int:
    return ceil_div(channels, tile['COLS']) if tile['NHWC'] else channels


def out_shape(x: Tensor, stride: int) -> Tuple[int, int]:
    """Height and width of the output."""
    return (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1


def _branches(fold: Fold) -> dict:
    """Arguments of kernels with one program per channel; few values need only one warp."""
    return dict(BRANCHES=fold.padded, num_warps=1 if fold.padded <= 8 else 4)


def _kernel(state: Tensor, channels: int) -> Tensor:
    """The folded kernel (C, 9) and its bias (C,), the end of the state."""
    return state[-10 * channels:]


def _sizes(x: Tensor, fold: Fold) -> Tuple[int, ...]:
    """C, H, W, H_out, W_out and n, for kernels."""
    batch, channels, height, width = x.shape
    out_h, out_w = out_shape(x, fold.stride)
    return channels, height, width, out_h, out_w, batch * out_h * out_w


def patch_sums(x: Tensor, state: Tensor, fold: Fold) -> Tensor:
    """Partial sums (splits, C, 54) of products of taps and of taps; writes the shift to state."""
    sizes = _sizes(x, fold)
    tile = _tile(x, 128)
    groups = _groups(sizes[0], tile)
    splits, per = split(_tiles(sizes[5], tile), groups)
    part = float32(x, splits, sizes[0], 54)
    launch(kernels.moments, (splits, groups), x, part, state, *sizes, per, fold.stride,
           fold.dilation, **tile)
    return part


def convolve(x: Tensor, state: Tensor, kernel: Tensor, fold: Fold) -> Tensor:
    """The output; ``kernel`` (10 C,) holds the folded kernel, then the bias."""
    sizes = _sizes(x, fold)
    channels, _, _, out_h, out_w, _ = sizes
    y = torch.empty((x.shape[0], channels, out_h, out_w), dtype=x.dtype, device=x.device,
                    memory_format=(torch.contiguous_format if x.is_contiguous()
                                   else torch.channels_last))
    tile = _tile(x, 512)
    grid = (_tiles(sizes[5], tile), _groups(channels, tile))
    launch(kernels.conv_bias_relu, grid, x, state, kernel, y, *sizes, fold.stride,
           fold.dilation, RELU=fold.relu, **tile)
    return y


def depthwise_forward(x: Tensor, params: Tensor, fold: Fold) -> Tuple[Tensor, Tensor, Tensor]:
    """The output, what the backward pass needs, and the norms' batch statistics.

    Args:
        x: (B, C, H, W), contiguous or channels_last.
        params: Flat: weights of the 3x3 branches, of the 1x1 branch, gammas, betas.
        fold: The block's branches.

    Returns:
        y in x's layout; the state (:func:`.reference.state_sizes`); (2, b, C): means and unbiased
        variances.
    """
    channels, *_, n = _sizes(x, fold)
    state = float32(x, sum(state_sizes(channels, channels, fold)))
    stats = float32(x, 2, fold.norms, channels)
    part = patch_sums(x, state, fold)
    launch(kernels.fold_forward, (channels,), part, params, state, stats, channels, n, len(part),
           fold.eps, *fold.branches, **_branches(fold))
    return convolve(x, state, _kernel(state, channels), fold), state, stats


def grad_sums(x: Tensor, grad: Tensor, y: Tensor, state: Tensor, fold: Fold) -> Tensor:
    """Partial sums (splits, C, 10) of the folded kernel's gradient and of the output's."""
    sizes = _sizes(x, fold)
    tile = _tile(x, 256)
    groups = _groups(sizes[0], tile)
    splits, per = split(_tiles(sizes[5], tile), groups)
    part = float32(x, splits, sizes[0], 10)
    launch(kernels.grad_sums, (splits, groups), x, grad, y, state, part, *sizes, per,
           fold.stride, fold.dilation, RELU=fold.relu, **tile)
    return part


def input_grad(x: Tensor, grad: Tensor, y: Tensor, kernel: Tensor, coef: Tensor, fold: Fold,
               stencil: bool) -> Tensor:
    """The gradient of x; ``coef`` comes from ``fold_backward`` and may be a stencil."""
    sizes = channels, height, width, out_h, out_w, n = _sizes(x, fold)
    dx = torch.empty_like(x)
    maps = (x, grad, y, kernel, coef, dx, channels, height, width)
    if fold.stride == 2 and fold.dilation == 1:
        tile = _tile(x, 256)
        grid = (_tiles(sizes[5], tile), _groups(channels, tile))
        launch(kernels.input_grad_halved, grid, *maps, out_h, out_w, n, RELU=fold.relu, **tile)
        return dx
    n = x.shape[0] * height * width
    tile = _tile(x, 512 if stencil and x.is_contiguous() else 256)
    grid = (_tiles(n, tile), _groups(channels, tile))
    if stencil:
        launch(kernels.input_grad_dense, grid, *maps, n, fold.dilation, RELU=fold.relu, **tile)
    else:
        launch(kernels.input_grad, grid, *maps, out_h, out_w, n, fold.stride,
               fold.dilation, RELU=fold.relu, **tile)
    return dx


def depthwise_backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, state: Tensor,
                       fold: Fold, *, needs_x: bool = True) -> Tuple[Optional[Tensor], Tensor]:
    """Like :func:`.function.backward`, for ``grad`` in x's dtype and layout."""
    channels, *_, n = _sizes(x, fold)
    part = grad_sums(x, grad, y, state, fold)
    grads = float32(x, params.numel())
    coef = float32(x, 90 * channels)
    stencil = fold.stride == 1
    launch(kernels.fold_backward, (channels,), part, params, state, grads, coef, channels, n,
           len(part), int(stencil), *fold.branches, **_branches(fold))
    if not needs_x:
        return None, grads
    return input_grad(x, grad, y, _kernel(state, channels), coef, fold, stencil), grads
