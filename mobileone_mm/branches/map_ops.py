"""Passes over feature maps, with those of torch's operators that are fast.

Shapes: x, y, g (B, C, H, W), contiguous or channels_last; vectors (C,).
"""

from typing import Tuple

import torch
from torch import Tensor

__all__ = ['channel_affine', 'channel_dots', 'norm_backward', 'add_scaled_',
           'pointwise_input_grad_', 'like_format']


def like_format(tensor: Tensor, other: Tensor) -> Tensor:
    """``tensor`` in the memory format of ``other``."""
    if other.is_contiguous():
        return tensor.contiguous()
    return tensor.contiguous(memory_format=torch.channels_last)


def channel_affine(x: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """``slope x + offset`` per channel: a batch norm of mean 0 and variance 1."""
    slope = slope.contiguous()
    return torch.batch_norm(x, slope, offset.contiguous(), torch.zeros_like(slope),
                            torch.ones_like(slope), False, 0., 0., False)


def channel_dots(g: Tensor, x: Tensor, mean: Tensor) -> Tuple[Tensor, Tensor]:
    """``sum_o g_o (x_o - mean)`` and ``sum_o g_o`` per channel: the reductions of a batch norm."""
    # channels_last kernels ignore the strides of their vectors.
    mean = mean.contiguous()
    ones = torch.ones_like(mean)
    # Without a weight, CUDA's kernels raise or return nothing.
    _, dot, total = torch.ops.aten.native_batch_norm_backward(
        g, x, ones, None, None, mean, ones, True, 0., [False, True, True])
    return dot, total


def norm_backward(g: Tensor, x: Tensor, slope: Tensor, mean: Tensor,
                  inv: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Gradient of the input of a batch norm ``slope (x - mean)``, and :func:`channel_dots`."""
    inv = inv.contiguous()
    dx, dot, total = torch.ops.aten.native_batch_norm_backward(
        g, x, slope / inv, None, None, mean.contiguous(), inv, True, 0., [True] * 3)
    return dx, dot / inv, total


def add_scaled_(out: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """``out += slope x`` per channel, in place; both of the same memory format."""
    return out.addcmul_(x, slope.view(1, -1, 1, 1))


def pointwise_input_grad_(out: Tensor, weight: Tensor, g: Tensor) -> Tensor:
    """``out += W^T g`` at every position, in place; W (C_out, C_in)."""
    if not out.is_contiguous():
        out.permute(0, 2, 3, 1).view(-1, out.shape[1]).addmm_(
            g.permute(0, 2, 3, 1).reshape(-1, g.shape[1]), weight)
        return out
    transposed = weight.t().expand(len(out), *weight.t().shape)
    out.flatten(2).baddbmm_(transposed, g.flatten(2))
    return out
