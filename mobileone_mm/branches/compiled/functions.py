"""All branches of a block in compiled passes: depthwise 3x3, or one convolution (k = 1)."""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd import Function

from ..autocast import plain_backward
from ..convolution import at_outputs, convolution_grads, convolve, keeps_output
from ..maths.moments import ConvShape
from ..plan import BranchPlan
from . import run
from .kernels import depthwise, taps
from .kernels.planes import Layout, Maps, layout
from .stacks import branches_of, new_grads, new_state, split_state, update_norms

__all__ = ['CompiledDepthwise', 'CompiledTaps']


class CompiledDepthwise(Function):
    """``relu(sum_b BN_b(W_b x))`` for depthwise 3x3 convolutions; keeps x and the output only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        lay = _layout(x, plan.shape)
        parts = plan.split(tensors)
        branches = branches_of(plan, plan.depthwise_weight(parts.weights, x.dtype).numpy(), parts)
        out = x.new_empty(*x.shape[:2], lay.rows, lay.columns)
        state, saved = new_state(branches)
        run(depthwise.forward, x, x, branches, state, plan.relu, out, lay)
        update_norms(plan, state, out.numel() // out.shape[1])
        ctx.plan = plan
        ctx.save_for_backward(x, out if plan.relu else None, *saved, *tensors)
        return out

    @staticmethod
    @plain_backward
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, out, exact, rounded, *tensors = ctx.saved_tensors
        plan, grad = ctx.plan, grad.contiguous()
        weights = plan.split(tensors).weights
        branches = branches_of(plan, plan.depthwise_weight(weights, x.dtype).numpy())
        grads = new_grads(branches)
        needs_x = ctx.needs_input_grad[0]
        grad_x = torch.empty_like(x) if needs_x else x.new_empty(0, 0, 0, 0)
        run(depthwise.backward, x, _maps(x, grad, out), branches,
            len(weights) - plan.has_scale, split_state(branches, exact, rounded), grads, grad_x,
            _layout(x, plan.shape))
        weight, gamma, beta = map(torch.from_numpy, grads)
        weight_grads = plan.split_weight_grads(weight, weights)
        return (grad_x if needs_x else None, None,
                *plan.grads(tensors, weight_grads, gamma, beta))


class CompiledTaps(Function):
    """``relu(a_1 y + a_2 x + c)`` with ``y = W x``; keeps x, the output and maybe y.

    torch computes the convolution; the 1x1 branch and the identity read x at the positions of the
    outputs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        parts = plan.split(tensors)
        y = convolve(x, parts.weights[0], plan).contiguous()
        at = at_outputs(x, y, plan.shape.stride) if len(plan.norms) > 1 else y
        branches = branches_of(plan, plan.tap_weight(parts.weights, x.dtype).numpy(), parts)
        out = torch.empty_like(y)
        state, saved = new_state(branches)
        run(taps.forward, y, y.flatten(2), at.flatten(2), branches, state, plan.relu,
            out.flatten(2))
        update_norms(plan, state, out.numel() // out.shape[1])
        ctx.plan = plan
        ctx.save_for_backward(x, y if keeps_output(y, plan) else None, out if plan.relu else None,
                              *saved, *tensors)
        return out

    @staticmethod
    @plain_backward
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, y, out, exact, rounded, *tensors = ctx.saved_tensors
        plan, grad = ctx.plan, grad.contiguous()
        weights = plan.split(tensors).weights
        if y is None:
            y = convolve(x, weights[0], plan).contiguous()
        two = len(plan.norms) > 1
        at = at_outputs(x, y, plan.shape.stride) if two else y
        branches = branches_of(plan, plan.tap_weight(weights, x.dtype).numpy())
        grads = new_grads(branches)
        grad_y, own = torch.empty_like(y), torch.empty_like(y)
        maps = _maps(at.flatten(2), grad.flatten(2), None if out is None else out.flatten(2))
        run(taps.backward, y, y.flatten(2), maps, branches, split_state(branches, exact, rounded),
            grads, grad_y.flatten(2), own.flatten(2))
        grad_x, grad_weight = convolution_grads(ctx, x, weights[0], grad_y, own if two else None)
        weight, gamma, beta = map(torch.from_numpy, grads)
        weight_grads = [grad_weight, weight[1, :, 1]] if plan.has_scale else [grad_weight]
        return (grad_x, None, *plan.grads(tensors, weight_grads, gamma, beta))


def _maps(x: Tensor, grad: Tensor, out: Optional[Tensor]) -> Maps:
    """``out`` after a ReLU, ``None`` without one."""
    relu = out is not None
    return Maps(x.detach().numpy(), grad.detach().numpy(),
                (grad if out is None else out).detach().numpy(), relu)


def _layout(x: Tensor, shape: ConvShape) -> Layout:
    return layout(shape, x.shape[0], *x.shape[2:], str(x.dtype).rsplit('.', 1)[-1])
