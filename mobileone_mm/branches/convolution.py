"""A block's convolution and its gradients."""

from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .map_ops import like_format, pointwise_input_grad_
from .maths import moments as mo
from .plan import BranchPlan

# From this map size, the backward pass repeats a depthwise convolution instead of keeping its
# output: large maps hold most of the memory, and depthwise convolutions take little of the time.
RECOMPUTE_PIXELS = 28 * 28


def keeps_output(y: Tensor, plan: BranchPlan) -> bool:
    """Whether the convolution's output is kept for the backward pass instead of recomputed."""
    return not plan.depthwise or y.shape[2] * y.shape[3] < RECOMPUTE_PIXELS


def at_outputs(x: Tensor, y: Tensor, stride: int) -> Tensor:
    """The input at the positions of y, in y's memory format."""
    return like_format(x[:, :, ::stride, ::stride] if stride > 1 else x, y)


def convolve(x: Tensor, weight: Tensor, plan: BranchPlan) -> Tensor:
    """The block's convolution, contiguous or channels_last."""
    shape = plan.shape
    y = F.conv2d(x, weight.to(x.dtype), None, shape.stride, shape.padding, shape.dilation,
                 x.shape[1] if plan.depthwise else 1)
    return y if y.is_contiguous() else y.contiguous(memory_format=torch.channels_last)


def convolution_grads(ctx: Any, x: Tensor, weight: Tensor, grad: Tensor,
                      own: Optional[Tensor]) -> Tuple[Optional[Tensor], Tensor]:
    """Gradients of input and weight through the convolution, from its output's ``grad``.

    ``own`` is what x gets in addition, at the outputs' positions; it may be changed.
    """
    shape, needs_x = ctx.plan.shape, ctx.needs_input_grad[0]
    pointwise = (shape == mo.ConvShape() and own is not None and own.dtype == x.dtype and needs_x
                 and x.shape[2] * x.shape[3] >= mo.SMALL_MAP)
    grad_x, grad_w = _convolution_backward(ctx, x, weight, grad,
                                           [needs_x and not pointwise, True, False])
    if pointwise and own is not None:
        grad_x = pointwise_input_grad_(like_format(own, x), weight.to(x.dtype).flatten(1),
                                       like_format(grad, x))
    elif own is not None and needs_x:
        grad_x[:, :, ::shape.stride, ::shape.stride] += own
    return grad_x if needs_x else None, grad_w.to(weight.dtype)


def _convolution_backward(ctx: Any, x: Tensor, weight: Tensor, grad: Tensor,
                          mask: List[bool]) -> Tuple[Tensor, Tensor]:
    shape = ctx.plan.shape
    return torch.ops.aten.convolution_backward(
        grad, x, weight.to(x.dtype), None, [shape.stride] * 2, [shape.padding] * 2,
        [shape.dilation] * 2, False, [0, 0], x.shape[1] if ctx.plan.depthwise else 1, mask)[:2]
