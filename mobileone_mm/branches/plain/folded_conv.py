"""One convolution for all branches of a block, from the moments of its input (k >= 2)."""

from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ..autocast import plain_backward
from ..compiled import usable
from ..compiled.available import compiled_masked_grad
from ..map_ops import like_format
from ..maths import moment_fold as fold
from ..maths import moments as mo
from ..maths.lags import LAG_SHAPE, depthwise_lag_input_grad, depthwise_lag_moments
from ..norms import normalize, reduce_over, stack_affine, sync_groups
from ..plan import BranchPlan

__all__ = ['FoldedConv']


class FoldedConv(Function):
    """``relu(sum_b BN_b(W_b x))`` as one convolution; keeps x and the output only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        norms, shape = plan.norms, plan.shape
        weights, gammas, betas = plan.split(tensors)
        dtype = mo.accumulation_dtype(x.dtype)
        kernels = plan.kernels(weights, dtype)
        moments = _moments(x, plan)
        products = kernels.times(moments.cov)
        var = kernels.variances(moments.cov, products)
        mean = kernels.project(moments.mean)
        gamma = stack_affine(gammas, 1., var, dtype)
        beta = stack_affine(betas, 0., var, dtype)
        stats = normalize(norms, gamma, mean, var, moments.count)
        kernel = kernels.combine(stats.scale).to(x.dtype)
        bias = fold.fold_bias(kernel, moments.mean, beta, stats.scale, stats.shift)
        channels = kernel.shape[0]
        size = shape.kernel_size
        y = F.conv2d(x, kernel.view(channels, -1, size, size), bias.to(x.dtype), shape.stride,
                     shape.padding, shape.dilation, channels if plan.depthwise else 1)
        if plan.relu:
            y.relu_()
        ctx.plan, ctx.count = plan, moments.count
        ctx.small_means = x.dtype == dtype and mo.are_small(
            moments.mean, moments.cov.diagonal(dim1=-2, dim2=-1))
        ctx.ill_conditioned = _is_ill_conditioned(mean, stats)
        ctx.reduce = None
        for group in sync_groups(norms):
            ctx.reduce = reduce_over(group, moments.count)
        ctx.save_for_backward(x, y if plan.relu else None, kernel, moments.mean, products,
                              *stats, *tensors)
        return y

    @staticmethod
    @plain_backward
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, y, kernel, mean, products, scale, inv, batch, shift, *tensors = ctx.saved_tensors
        plan = ctx.plan
        weights = plan.split(tensors).weights
        exact = torch.float64 if ctx.ill_conditioned else products.dtype
        grad, grad_bias = _masked_grad(grad, x, y, exact)
        state = fold.FoldState(mean, products, fold.BranchStatistics(scale, inv, batch, shift))
        kernels = plan.kernels(weights, products.dtype)
        grad_x, grads = _backward(ctx, x, grad, grad_bias, kernel, kernels, state)
        weight_grads = plan.split_weight_grads(grads.weight, weights)
        grad_x = None if grad_x is None else grad_x.to(x.dtype)
        return (grad_x, None, *plan.grads(tensors, weight_grads, grads.gamma, grads.beta))


def _by_lags(x: Tensor, plan: BranchPlan) -> bool:
    return plan.depthwise and plan.shape == LAG_SHAPE and min(x.shape[2:]) > 1


def _moments(x: Tensor, plan: BranchPlan) -> mo.Moments:
    if _by_lags(x, plan):
        return depthwise_lag_moments(x)
    if plan.depthwise:
        return mo.depthwise_patch_moments(x, plan.shape)
    return mo.dense_moments(x, plan.shape)


def _masked_grad(grad: Tensor, x: Tensor, out: Optional[Tensor],
                 dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
    """A new gradient before the ReLU, in ``dtype`` and the format of x, and its sums."""
    if usable(x):
        g, sums = compiled_masked_grad(grad, out)
        return g.to(dtype), sums.to(dtype)
    if out is None:
        g = like_format(grad, x).to(dtype, copy=True)
    else:
        g = torch.ops.aten.threshold_backward(grad, out, 0).to(dtype)
    return g, mo.channel_sum(g)


# If a branch's mean is this many times its deviation, gradients are computed in float64.
MAX_MEAN_TO_DEVIATION = 30.


def _is_ill_conditioned(mean: Tensor, stats: fold.BranchStatistics) -> bool:
    """Whether sums over patches cancel in float32 because their mean is large."""
    return bool(((mean * stats.inv).abs() > MAX_MEAN_TO_DEVIATION).any())


def _backward(ctx: Any, x: Tensor, grad: Tensor, grad_bias: Tensor, kernel: Tensor,
              kernels: fold.Kernels, state: fold.FoldState
              ) -> Tuple[Optional[Tensor], fold.FoldGrads]:
    """Gradients of the input and of all branches; in the dtype of ``grad``, which is changed."""
    plan, shape, exact, dtype = ctx.plan, ctx.plan.shape, grad.dtype, state.products.dtype
    by_lags = _by_lags(x, plan)
    x, kernel = x.to(exact), kernel.to(exact)
    mean_grad = grad_bias / ctx.count
    if not ctx.small_means:
        # Centered, it gives the kernel's gradient for centered patches, without cancellation.
        grad.sub_(mean_grad.view(1, -1, 1, 1))
    size = [shape.kernel_size] * 2
    needs_x = ctx.needs_input_grad[0]
    grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
        grad, x, kernel.view(len(kernel), -1, *size), None, [shape.stride] * 2,
        [shape.padding] * 2, [shape.dilation] * 2, False, [0, 0],
        x.shape[1] if plan.depthwise else 1, [by_lags and needs_x, True, False])
    grad_kernel = grad_kernel.flatten(1)
    if ctx.small_means:
        grad_kernel -= grad_bias.unsqueeze(1) * state.mean.to(exact)
    grads = fold.fold_backward(kernels, state, grad_kernel.to(dtype), grad_bias.to(dtype),
                               ctx.count, ctx.reduce)
    if not needs_x:
        return None, grads
    linear = grads.linear
    if not ctx.small_means:
        linear += kernel * mean_grad.unsqueeze(1) if plan.depthwise else mean_grad @ kernel
    quadratic, linear = grads.quadratic.to(exact), linear.to(exact)
    if by_lags:
        grad_x = grad_x + depthwise_lag_input_grad(x, quadratic, linear)
    elif plan.depthwise:
        grad_x = mo.depthwise_patch_input_grad(x, shape, quadratic, linear, grad, kernel)
    else:
        grad_x = mo.dense_input_grad(x, shape, quadratic, linear, grad, kernel)
    return grad_x, grads
