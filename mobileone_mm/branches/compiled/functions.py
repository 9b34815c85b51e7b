"""All branches of a block by compiled passes: depthwise 3x3, or one convolution (k = 1)."""

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from ..autocast import plain_backward
from ..convolution import at_outputs, convolution_grads, convolve, keeps_output
from ..maths.moments import ConvShape
from ..plan import BranchPlan, affine_of, weights_of
from . import run
from .kernels import depthwise, taps
from .kernels.planes import Layout, layout
from .stacks import branches_of, new_grads, new_state, param_grads, split_state, update_norms

__all__ = ['CompiledDepthwise', 'CompiledTaps']

CENTRE = 4


class CompiledDepthwise(Function):
    """``relu(sum_b BN_b(W_b x))`` for depthwise 3x3 convolutions; keeps x and the output only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        lay = _layout(x, plan.shape)
        branches = branches_of(plan, _depthwise_weight(plan, tensors), affine_of(plan, tensors))
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
        branches = branches_of(plan, _depthwise_weight(plan, tensors))
        grads = new_grads(branches)
        needs_x, weights = ctx.needs_input_grad[0], weights_of(plan, tensors)
        grad_x = torch.empty_like(x) if needs_x else x.new_empty(0, 0, 0, 0)
        run(depthwise.backward, x, x, grad, grad if out is None else out, out is not None,
            branches, len(weights) - plan.has_scale, split_state(branches, exact, rounded), grads,
            needs_x, grad_x, _layout(x, plan.shape))
        weight_grads = [g.view_as(w) if w.shape[2] == 3 else g[:, CENTRE].reshape(w.shape)
                        for g, w in zip(torch.from_numpy(grads.weight), weights)]
        return (grad_x if needs_x else None, None, *param_grads(weight_grads, grads, tensors))


class CompiledTaps(Function):
    """``relu(a_1 y + a_2 x + c)`` with ``y = W x``; keeps x, the output and maybe y.

    For one convolution that torch computes; the 1x1 branch and the identity read x at the outputs'
    positions.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        y = convolve(x, tensors[0], plan).contiguous()
        at = at_outputs(x, y, plan.shape.stride) if len(plan.norms) > 1 else y
        branches = branches_of(plan, _tap_weight(plan, tensors), affine_of(plan, tensors))
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
        if y is None:
            y = convolve(x, tensors[0], plan).contiguous()
        two = len(plan.norms) > 1
        at = at_outputs(x, y, plan.shape.stride) if two else y
        branches = branches_of(plan, _tap_weight(plan, tensors))
        grads = new_grads(branches)
        grad_y, own = torch.empty_like(y), torch.empty_like(y)
        maps = (y, at, grad, grad if out is None else out)
        run(taps.backward, y, *(m.flatten(2) for m in maps), out is not None, branches,
            split_state(branches, exact, rounded), grads, grad_y.flatten(2), own.flatten(2))
        grad_x, grad_weight = convolution_grads(ctx, x, tensors[0], grad_y, own if two else None)
        weights = weights_of(plan, tensors)
        factors = [torch.from_numpy(grads.weight[1, :, 1]).reshape(w.shape) for w in weights[1:]]
        return (grad_x, None, *param_grads([grad_weight, *factors], grads, tensors))


def _layout(x: Tensor, shape: ConvShape) -> Layout:
    return layout(shape, x.shape[0], *x.shape[2:], str(x.dtype).rsplit('.', 1)[-1])


def _depthwise_weight(plan: BranchPlan, tensors: Sequence[Optional[Tensor]]) -> np.ndarray:
    """(b, C, 9); the scale and the identity branch read the centre."""
    arrays = [w.detach().numpy() for w in weights_of(plan, tensors)]
    weight = np.zeros((len(plan.norms), len(arrays[0]), 9), arrays[0].dtype)
    for row, w in zip(weight, arrays):
        if w.shape[2] == 3:
            row[:] = w.reshape(-1, 9)
        else:
            row[:, CENTRE] = w.ravel()
    if plan.has_skip:
        weight[-1, :, CENTRE] = 1
    return weight


def _tap_weight(plan: BranchPlan, tensors: Sequence[Optional[Tensor]]) -> np.ndarray:
    """(b, C, 2): the convolution's branch reads y, the 1x1 branch and the identity x."""
    conv, *scale = (w.detach().numpy() for w in weights_of(plan, tensors))
    weight = np.zeros((len(plan.norms), len(conv), 2), conv.dtype)
    weight[0, :, 0] = 1
    weight[1:, :, 1] = 1
    if scale:
        weight[1, :, 1] = scale[0].ravel()
    return weight
