"""Depthwise 3x3 blocks by Triton: the launches of :mod:`.depthwise_kernels`."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from . import depthwise_kernels as kernels
from .block import Fold
from .launch import ceil_div, float32, launch, padded, split
from .reference import state_sizes

__all__ = ['depthwise_backward', 'depthwise_forward']


def _tile(like: Tensor, height: int, width: int, size: int) -> dict:
    """Rows and columns of a tile of ``size`` values, for maps (B, C, height, width)."""
    channels = like.shape[1]
    nhwc = not like.is_contiguous()
    cols = min(padded(channels), 32) if nhwc else min(padded(width), 128)
    rows = max(1, size // cols)
    if not nhwc:
        rows = min(rows, padded(like.shape[0] * height))
    return dict(NHWC=nhwc, ROWS=rows, COLS=cols)


def _tiles(batch: int, height: int, width: int, tile: dict) -> int:
    """How many tiles cover the positions of one channel."""
    if tile['NHWC']:
        return ceil_div(batch * height * width, tile['ROWS'])
    return ceil_div(batch * height, tile['ROWS']) * ceil_div(width, tile['COLS'])


def _groups(channels: int, tile: dict) -> int:
    return ceil_div(channels, tile['COLS']) if tile['NHWC'] else channels


def out_shape(x: Tensor, stride: int) -> Tuple[int, int]:
    """Height and width of the output."""
    return (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1


def _branches(fold: Fold) -> dict:
    """For kernels with a program a channel, of one warp where its few values fit."""
    constants = fold.branches()
    return dict(constants, num_warps=1 if constants['BRANCHES'] <= 8 else 4)


def _kernel(state: Tensor, channels: int) -> Tensor:
    """The folded kernel (C, 9) and its bias (C,), the end of the state."""
    return state[-10 * channels:]


def depthwise_forward(x: Tensor, params: Tensor, fold: Fold) -> Tuple[Tensor, Tensor, Tensor]:
    """The output, what the backward pass needs, and the norms' batch statistics.

    Args:
        x: (B, C, H, W), contiguous or channels_last.
        params: Flat: weights of the 3x3 branches, of the 1x1 branch, gammas, betas.
        fold: Of the block.

    Returns:
        y like x; the state of :mod:`.depthwise_kernels`; (2, b, C): means, unbiased variances.
    """
    batch, channels, height, width = x.shape
    out_h, out_w = out_shape(x, fold.stride)
    n = batch * out_h * out_w
    conv = dict(STRIDE=fold.stride, DIL=fold.dilation)
    sizes = (channels, height, width, out_h, out_w, n)
    state = float32(x, sum(state_sizes(channels, channels, fold)))
    stats = float32(x, 2, fold.norms, channels)
    y = torch.empty((batch, channels, out_h, out_w), dtype=x.dtype, device=x.device,
                    memory_format=(torch.contiguous_format if x.is_contiguous()
                                   else torch.channels_last))

    tile = _tile(x, out_h, out_w, 128)
    groups, count = _groups(channels, tile), _tiles(batch, out_h, out_w, tile)
    splits, per = split(count, groups)
    part = float32(x, splits, channels, 54)
    launch(kernels.moments, (splits, groups), x, part, state, *sizes, per, **conv, **tile)
    launch(kernels.fold_forward, (channels,), part, params, state, stats, channels, n, splits,
           fold.eps, **_branches(fold))
    tile = _tile(x, out_h, out_w, 512)
    grid = (_tiles(batch, out_h, out_w, tile), _groups(channels, tile))
    launch(kernels.conv_bias_relu, grid, x, state, _kernel(state, channels), y, *sizes, **conv,
           RELU=fold.relu, **tile)
    return y, state, stats


def depthwise_backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, state: Tensor,
                       fold: Fold, needs_x: bool = True) -> Tuple[Optional[Tensor], Tensor]:
    """Gradients of x and of the flat parameters, from that of the output.

    Args:
        x: As in the forward pass.
        grad: Like y, of any layout.
        y: The output; anything without ReLU.
        params: As in the forward pass.
        state: From the forward pass.
        fold: Of the block.
        needs_x: Whether the gradient of x is wanted; ``None`` otherwise.
    """
    batch, channels, height, width = x.shape
    out_h, out_w = out_shape(x, fold.stride)
    n = batch * out_h * out_w
    conv = dict(STRIDE=fold.stride, DIL=fold.dilation, RELU=fold.relu)
    sizes = (channels, height, width, out_h, out_w, n)

    tile = _tile(x, out_h, out_w, 256)
    groups, count = _groups(channels, tile), _tiles(batch, out_h, out_w, tile)
    splits, per = split(count, groups)
    part = float32(x, splits, channels, 10)
    launch(kernels.grad_sums, (splits, groups), x, grad, y, state, part, *sizes, per, **conv,
           **tile)
    grads = float32(x, params.numel())
    dense = fold.stride == 1
    coef = float32(x, 90 * channels)
    launch(kernels.fold_backward, (channels,), part, params, state, grads, coef, channels, n,
           splits, DENSE=dense, **_branches(fold))
    if not needs_x:
        return None, grads
    dx = torch.empty_like(x)
    maps = (x, grad, y, _kernel(state, channels), coef, dx, channels, height, width)
    relu = dict(RELU=fold.relu)
    if fold.stride == 2 and fold.dilation == 1:
        tile = _tile(x, out_h, out_w, 256)
        grid = (_tiles(batch, out_h, out_w, tile), _groups(channels, tile))
        launch(kernels.input_grad_halved, grid, *maps, out_h, out_w, n, **relu, **tile)
        return dx, grads
    tile = _tile(x, height, width, 512 if dense and x.is_contiguous() else 256)
    grid = (_tiles(batch, height, width, tile), _groups(channels, tile))
    if dense:
        launch(kernels.input_grad_dense, grid, *maps, n, DIL=fold.dilation, **relu, **tile)
    else:
        launch(kernels.input_grad, grid, *maps, out_h, out_w, batch * height * width, **conv,
               **tile)
    return dx, grads
