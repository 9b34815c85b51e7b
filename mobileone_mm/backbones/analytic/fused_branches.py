"""One convolution with batch norm, scale and identity branches, fused (k = 1)."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...reparam import moment_fold as fold
from ...reparam import moments as mo
from .folded_conv import BranchPlan
from .kernels import (
    add_scaled_,
    channel_affine,
    channel_dots,
    like_format,
    pointwise_input_grad_,
    pointwise_kernel_grad,
)
from .norms import normalise, reduce_over, stack_affine, sync_groups

__all__ = ['FusedBranches']

# From this map size on, a depthwise convolution is done again in the backward pass instead of kept:
# the large maps hold most of the memory, and depthwise convolutions take little of the time.
RECOMPUTE_PIXELS = 28 * 28


class FusedBranches(Function):
    """``relu(a_1 y + a_2 x + c)`` with ``y = W x``; keeps x, the output and maybe y.

    y and x at the outputs' positions are the two taps of a depthwise fold
    (:mod:`mobileone_mm.reparam.moment_fold`): the kernel of the convolution's branch is (1, 0),
    that of the 1x1 branch (0, w), that of the identity (0, 1).
    """

    @staticmethod
    def forward(ctx, x: Tensor, plan: BranchPlan, *tensors: Optional[Tensor]) -> Tensor:  # noqa: D102
        b = len(plan.norms)
        weights, gammas, betas = tensors[:-2 * b], tensors[-2 * b:-b], tensors[-b:]
        y = _convolve(x, weights[0], plan)
        sources = [y] if b == 1 else [y, _at_outputs(x, y, plan.shape.stride)]
        moments = _stack_moments([mo.channel_moments(source) for source in sources])
        dtype = moments.cov.dtype
        kernels = _tap_kernels(weights, plan, dtype)
        products = kernels.times(moments.cov)
        var = kernels.variances(moments.cov, products)
        stats = normalise(plan.norms, stack_affine(gammas, 1., var), kernels.project(moments.mean),
                          var, moments.count)
        slopes = kernels.combine(stats.scale)
        offset = fold.fold_bias(slopes, moments.mean, stack_affine(betas, 0., var), stats.scale,
                                stats.shift)
        out = channel_affine(y.to(dtype), slopes[:, 0], offset.to(dtype))
        if b > 1:
            add_scaled_(out, sources[1].to(dtype), slopes[:, 1])
        if plan.relu:
            out.relu_()
        out = out.to(x.dtype)
        ctx.plan, ctx.count, ctx.reduce = plan, moments.count, None
        for group in sync_groups(plan.norms):
            ctx.reduce = reduce_over(group, moments.count)
        keep_y = not plan.depthwise or y.shape[2] * y.shape[3] < RECOMPUTE_PIXELS
        ctx.save_for_backward(x, y if keep_y else None, out if plan.relu else None, slopes,
                              moments.mean, products, *stats, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, y, out, slopes, mean, products, scale, inv, batch, shift, *tensors = ctx.saved_tensors
        plan, dtype = ctx.plan, slopes.dtype
        b = len(plan.norms)
        weights, gammas, betas = tensors[:-2 * b], tensors[-2 * b:-b], tensors[-b:]
        if y is None:
            y = _convolve(x, weights[0], plan)
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        g = like_format(grad, y).to(dtype)
        sources = [y] if b == 1 else [y, _at_outputs(x, y, plan.shape.stride)]
        dots = [channel_dots(g, source.to(dtype), m.to(dtype))
                for source, m in zip(sources, mean.unbind(1))]
        slope_grads, grad_bias = torch.stack([dot for dot, _ in dots], 1), dots[0][1]
        kernels = _tap_kernels(weights, plan, dtype)
        state = fold.FoldState(mean, products, scale, inv, batch, shift)
        grads = fold.fold_backward(kernels, state, slope_grads, grad_bias, ctx.count, ctx.reduce)
        linear = grads.linear.to(dtype)
        grad_y = add_scaled_(
            channel_affine(y.to(dtype), grads.quadratic[:, 0], linear[:, 0]), g, slopes[:, 0])
        own = None
        if b > 1:
            own = _OwnGrad(sources[1].to(dtype), grads.quadratic[:, 1], linear[:, 1], g,
                           slopes[:, 1])
        grad_x, grad_w = _input_and_weight_grad(ctx, x, weights[0], grad_y.to(x.dtype), own)
        weight_grads = [grad_w] + [grads.weight[1][:, 1].reshape(w.shape).to(w.dtype)
                                   for w in weights[1:]]
        gamma_grads = [None if p is None else v.to(p.dtype) for p, v in zip(gammas, grads.gamma)]
        beta_grads = [None if p is None else v.to(p.dtype) for p, v in zip(betas, grads.beta)]
        return (grad_x, None, *weight_grads, *gamma_grads, *beta_grads)


def _at_outputs(x: Tensor, y: Tensor, stride: int) -> Tensor:
    """X at the positions of y, in y's memory format."""
    return like_format(x[:, :, ::stride, ::stride] if stride > 1 else x, y)


def _convolve(x: Tensor, weight: Tensor, plan: BranchPlan) -> Tensor:
    shape = plan.shape
    y = F.conv2d(x, weight.to(x.dtype), None, shape.stride, shape.padding, shape.dilation,
                 x.shape[1] if plan.depthwise else 1)
    return y if y.is_contiguous() else y.contiguous(memory_format=torch.channels_last)


class _OwnGrad(NamedTuple):
    """``slope g_o + quadratic x_o + linear``: what x gets as the second tap."""

    x: Tensor
    quadratic: Tensor
    linear: Tensor
    g: Tensor
    slope: Tensor

    def tensor(self) -> Tensor:
        return add_scaled_(channel_affine(self.x, self.quadratic, self.linear), self.g, self.slope)

    def add_all_but_linear_(self, out: Tensor) -> Tensor:
        return add_scaled_(add_scaled_(out, self.x, self.quadratic), self.g, self.slope)


def _input_and_weight_grad(ctx, x: Tensor, weight: Tensor, grad: Tensor,
                           own: Optional[_OwnGrad]) -> Tuple[Optional[Tensor], Tensor]:
    """Through the convolution of the first tap, plus what x gets as the second."""
    shape, depthwise = ctx.plan.shape, ctx.plan.depthwise
    w = weight.to(x.dtype)
    groups = x.shape[1] if depthwise else 1
    needs_x, same_dtype = ctx.needs_input_grad[0], own is None or own.x.dtype == x.dtype

    def convolution_backward(mask: List[bool]) -> Tuple[Tensor, Tensor]:
        return torch.ops.aten.convolution_backward(
            grad, x, w, None, [shape.stride] * 2, [shape.padding] * 2, [shape.dilation] * 2, False,
            [0, 0], groups, mask)[:2]

    if shape == mo.ConvShape() and not depthwise and same_dtype:
        grad = like_format(grad, x)
        grad_w = pointwise_kernel_grad(x, grad).view_as(weight)
        if not needs_x:
            return None, grad_w
        into = torch.zeros_like(x) if own is None else like_format(own.tensor(), x)
        return pointwise_input_grad_(into, w.flatten(1), grad), grad_w
    same_size = shape.stride == 1 and 2 * shape.padding == shape.dilation * (shape.kernel_size - 1)
    if own is not None and needs_x and depthwise and same_size and same_dtype:
        # The gradient of the input as a forward convolution takes the constant along for nothing.
        grad_x = F.conv2d(grad, w.flip(2, 3), own.linear, 1, shape.padding, shape.dilation, groups)
        grad_w = convolution_backward([False, True, False])[1]
        return own.add_all_but_linear_(like_format(grad_x, grad)), grad_w
    grad_x, grad_w = convolution_backward([needs_x, True, False])
    if own is not None and needs_x:
        grad_x[:, :, ::shape.stride, ::shape.stride] += own.tensor()
    return grad_x if needs_x else None, grad_w.to(weight.dtype)


def _stack_moments(parts: List[mo.Moments]) -> mo.Moments:
    """Moments of all taps."""
    if len(parts) == 1:
        return parts[0]
    return mo.Moments(torch.cat([part.mean for part in parts], 1),
                      torch.cat([part.cov for part in parts], 1), parts[0].count)


def _tap_kernels(weights: Sequence[Tensor], plan: BranchPlan,
                 dtype: torch.dtype) -> fold.TapKernels:
    """(b, C, taps): see :class:`FusedBranches`."""
    b = len(plan.norms)
    kernels = weights[0].new_zeros(b, weights[0].shape[0], min(b, 2), dtype=dtype)
    kernels[0, :, 0] = 1
    if plan.has_scale:
        kernels[1, :, 1] = weights[1].flatten()
    if plan.has_skip:
        kernels[-1, :, 1] = 1
    return fold.TapKernels(kernels)
