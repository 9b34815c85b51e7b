"""The sum of a block's branches by Triton kernels, as one differentiable function."""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .block import Fold
from .depthwise import depthwise_backward, depthwise_forward
from .pointwise import pointwise_backward, pointwise_forward

__all__ = ['TritonBranches', 'backward', 'forward']


def forward(x: Tensor, params: Tensor, channels: int,
            fold: Fold) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, the folded kernel of a pointwise block, the state and the norms' statistics.

    Args:
        x: (B, C, H, W), contiguous or channels_last.
        params: Flat float32: weights of the block's own kernel, of the 1x1 branch, gammas, betas.
        channels: Channels of the output.
        fold: The block's branches.

    Returns:
        y in x's dtype and layout; the kernel (channels, C) in x's dtype, empty if depthwise; the
        state in float32, see :func:`.reference.state_sizes`; (2, b, channels): means and
        unbiased variances.
    """
    if fold.depthwise:
        y, state, stats = depthwise_forward(x, params, fold)
        return y, x.new_empty(0), state, stats
    return pointwise_forward(x, params, channels, fold)


def backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, kernel: Tensor, state: Tensor,
             fold: Fold, *, needs_x: bool) -> Tuple[Optional[Tensor], Tensor]:
    """Gradients of x, ``None`` unless it ``needs_x``, and of the flat parameters.

    Args:
        x: As in :func:`forward`.
        grad: Gradient of the output.
        y: The output; ignored without ReLU.
        params: As in :func:`forward`.
        kernel: From :func:`forward`.
        state: From :func:`forward`.
        fold: The block's branches.
        needs_x: Whether to compute the gradient of x.
    """
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    grad = grad.to(x.dtype).contiguous(memory_format=layout)
    if fold.depthwise:
        return depthwise_backward(x, grad, y, params, state, fold, needs_x=needs_x)
    return pointwise_backward(x, grad, y, params, kernel, state, fold, needs_x=needs_x)


class TritonBranches(Function):
    """``relu(sum_b BN_b(W_b x))`` and the norms' batch statistics; keeps x and the output only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fold: Fold,  # noqa: D102
                *tensors: Tensor) -> Tuple[Tensor, Tensor]:
        params = torch.cat([t.reshape(-1) for t in tensors]).float()
        ctx.fold, ctx.shapes, ctx.dtype = fold, [t.shape for t in tensors], tensors[0].dtype
        y, kernel, state, stats = forward(x, params, tensors[0].shape[0], fold)
        ctx.save_for_backward(x, y if fold.relu else x, params, kernel, state)
        ctx.mark_non_differentiable(stats)
        ctx.set_materialize_grads(False)
        return y, stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Optional[Tensor], _: None) -> Tuple[Any, ...]:  # noqa: D102
        if grad is None:
            return (None,) * (2 + len(ctx.shapes))
        x, y, params, kernel, state = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            dx, grads = backward(x, grad, y, params, kernel, state, ctx.fold,
                                 needs_x=ctx.needs_input_grad[0])
        parts = grads.to(ctx.dtype).split([shape.numel() for shape in ctx.shapes])
        return (dx, None, *(part.view(shape) for part, shape in zip(parts, ctx.shapes)))
