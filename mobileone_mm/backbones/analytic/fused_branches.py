"""One convolution with batch norm, scale and identity branches, fused (k = 1)."""

from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...reparam import moment_fold as fold
from ...reparam import moments as mo
from .folded_conv import BranchPlan
from .norms import normalise, reduce_over, stack_affine, sync_groups

__all__ = ['FusedBranches']


class FusedBranches(Function):
    """``relu(a_1 y + a_2 x + c)`` with ``y = W x``; keeps x, y and the output.

    y and x at the outputs' positions are the two taps of a depthwise fold
    (:mod:`mobileone_mm.reparam.moment_fold`): the kernel of the convolution's branch is (1, 0), that
    of the 1x1 branch (0, w), that of the identity (0, 1). No branch reads both, so the taps'
    covariance with each other is not needed and taken as zero.
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
        out = _affine(sources, slopes, offset)
        if plan.relu:
            out.relu_()
        out = out.to(x.dtype)
        ctx.plan, ctx.count, ctx.reduce = plan, moments.count, None
        for group in sync_groups(plan.norms):
            ctx.reduce = reduce_over(group, moments.count)
        ctx.save_for_backward(x, y, out if plan.relu else None, slopes, moments.mean, products,
                              *stats, *tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, y, out, slopes, mean, products, scale, inv, batch, shift, *tensors = ctx.saved_tensors
        plan, dtype = ctx.plan, slopes.dtype
        b = len(plan.norms)
        weights, gammas, betas = tensors[:-2 * b], tensors[-2 * b:-b], tensors[-b:]
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        grad = _like(grad, y)
        sources = [y] if b == 1 else [y, _at_outputs(x, y, plan.shape.stride)]
        rows = mo.Rows(y)
        g = rows.view(grad).to(dtype)
        grad_bias = rows.sum(g).to(dtype)
        slope_grads = torch.stack(
            [_centred_dot(rows, source, mean[:, i], g) for i, source in enumerate(sources)], 1)
        kernels = _tap_kernels(weights, plan, dtype)
        state = fold.FoldState(mean, products, scale, inv, batch, shift)
        grads = fold.fold_backward(kernels, state, slope_grads, grad_bias, ctx.count, ctx.reduce)
        taps = [_tap_grad(rows, source, g, slopes[:, i], grads.quadratic[:, i, i],
                          grads.linear[:, i]).to(x.dtype) for i, source in enumerate(sources)]
        grad_x, grad_w = _convolve_backward(x, weights[0], rows.unview(taps[0], y.shape), plan,
                                            ctx.needs_input_grad[0])
        if b > 1 and grad_x is not None:
            stride = plan.shape.stride
            grad_x[:, :, ::stride, ::stride] += rows.unview(taps[1], y.shape)
        weight_grads = [grad_w] + [grads.weight[1][:, 1].reshape(w.shape).to(w.dtype)
                                   for w in weights[1:]]
        gamma_grads = [None if p is None else v.to(p.dtype) for p, v in zip(gammas, grads.gamma)]
        beta_grads = [None if p is None else v.to(p.dtype) for p, v in zip(betas, grads.beta)]
        return (grad_x, None, *weight_grads, *gamma_grads, *beta_grads)


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """``tensor`` in the memory format of ``other``."""
    if other.is_contiguous():
        return tensor.contiguous()
    return tensor.contiguous(memory_format=torch.channels_last)


def _at_outputs(x: Tensor, y: Tensor, stride: int) -> Tensor:
    """x at the positions of y, in y's memory format."""
    return _like(x[:, :, ::stride, ::stride] if stride > 1 else x, y)


def _convolve(x: Tensor, weight: Tensor, plan: BranchPlan) -> Tensor:
    shape = plan.shape
    y = F.conv2d(x, weight.to(x.dtype), None, shape.stride, shape.padding, shape.dilation,
                 x.shape[1] if plan.depthwise else 1)
    return y if y.is_contiguous() else y.contiguous(memory_format=torch.channels_last)


def _convolve_backward(x: Tensor, weight: Tensor, grad: Tensor, plan: BranchPlan,
                       input_grad: bool) -> Tuple[Optional[Tensor], Tensor]:
    shape = plan.shape
    grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
        grad, x, weight.to(x.dtype), None, [shape.stride] * 2, [shape.padding] * 2,
        [shape.dilation] * 2, False, [0, 0], x.shape[1] if plan.depthwise else 1,
        [input_grad, True, False])
    return (grad_x if input_grad else None), grad_w.to(weight.dtype)


def _stack_moments(parts: List[mo.Moments]) -> mo.Moments:
    """One-tap moments to those of a patch of all taps, with a diagonal covariance."""
    cov = torch.diag_embed(torch.cat([part.cov.flatten(1) for part in parts], 1))
    return mo.Moments(torch.cat([part.mean for part in parts], 1), cov, parts[0].count)


def _tap_kernels(weights: Sequence[Tensor], plan: BranchPlan,
                 dtype: torch.dtype) -> fold.DepthwiseKernels:
    """(b, C, taps): see :class:`FusedBranches`."""
    b = len(plan.norms)
    kernels = weights[0].new_zeros(b, weights[0].shape[0], min(b, 2), dtype=dtype)
    kernels[0, :, 0] = 1
    if plan.has_scale:
        kernels[1, :, 1] = weights[1].flatten()
    if plan.has_skip:
        kernels[-1, :, 1] = 1
    return fold.DepthwiseKernels(kernels)


def _affine(sources: Sequence[Tensor], slopes: Tensor, offset: Tensor) -> Tensor:
    """``sum_i slopes_i source_i + offset`` per channel."""
    dtype = slopes.dtype
    rows = mo.Rows(sources[0])
    out = torch.addcmul(rows.spread(offset, dtype), rows.view(sources[0]).to(dtype),
                        rows.spread(slopes[:, 0], dtype))
    for source, slope in zip(sources[1:], slopes[:, 1:].unbind(1)):
        out.addcmul_(rows.view(source).to(dtype), rows.spread(slope, dtype))
    return rows.unview(out, sources[0].shape)


def _centred_dot(rows: mo.Rows, source: Tensor, mean: Tensor, g: Tensor) -> Tensor:
    """``sum_o g_o (source_o - mean)`` per channel."""
    centred = torch.sub(rows.view(source).to(g.dtype), rows.spread(mean, g.dtype))
    return rows.sum(centred.mul_(g)).to(g.dtype)


def _tap_grad(rows: mo.Rows, source: Tensor, g: Tensor, slope: Tensor, quadratic: Tensor,
              linear: Tensor) -> Tensor:
    """``slope g_o + quadratic source_o + linear`` per channel."""
    dtype = g.dtype
    out = torch.addcmul(rows.spread(linear, dtype), rows.view(source).to(dtype),
                        rows.spread(quadratic, dtype))
    return out.addcmul_(g, rows.spread(slope, dtype))
