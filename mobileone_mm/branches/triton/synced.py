"""Blocks with synchronized norms, or with norms that do not all use the batch.

Triton makes the passes over maps. The fold between them uses torch (:mod:`..maths.moment_fold`),
which communicates with the other processes.
"""

from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from ..maths import moment_fold
from ..norms import normalize, reduce_over, sync_groups
from . import depthwise, pointwise
from .block import Fold
from .reference import branch_kernels, flat_grads

__all__ = ['SyncedBranches']


class SyncedBranches(Function):
    """Like :class:`.function.TritonBranches`, but also updates the running statistics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fold: Fold, norms: List[_BatchNorm],  # noqa: D102
                *tensors: Tensor) -> Tensor:
        params = torch.cat([t.reshape(-1) for t in tensors]).float()
        ctx.fold, ctx.shapes, ctx.dtype = fold, [t.shape for t in tensors], tensors[0].dtype
        channels = tensors[0].shape[0]
        shift, rest, cov, count = _moments(x, fold)
        kernels = branch_kernels(params, x.shape[1], channels, fold)
        mean = rest + shift.double().view(-1, *[1] * (rest.dim() - 1))
        products = kernels.times(cov)
        gamma, beta = params[-2 * fold.norms * channels:].view(2, fold.norms, channels)
        stats = normalize(norms, gamma, kernels.project(mean),
                          kernels.variances(cov, products), count)
        kernel = kernels.combine(stats.scale)
        if fold.depthwise:
            bias = moment_fold.fold_bias(kernel, rest, beta, stats.scale, stats.shift)
            # The kernel takes values minus the shift, which a norm's mean includes.
            kernel = torch.cat([kernel.flatten(), bias.float()])
            state = torch.cat([shift, rest.float().flatten()])
            y = depthwise.convolve(x, state, kernel, fold)
        else:
            kernel, state = kernel.to(x.dtype), shift
            bias = moment_fold.fold_bias(kernel, mean, beta, stats.scale, stats.shift)
            y = pointwise.multiply(x, kernel, bias.float(), fold.relu)
        ctx.count, ctx.reduce = count, None
        for group in sync_groups(norms):
            ctx.reduce = reduce_over(group, count)
        ctx.save_for_backward(x, y if fold.relu else x, params, kernel, state, mean, products,
                              *stats)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Any, ...]:  # noqa: D102
        x = ctx.saved_tensors[0]
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        with torch.autocast(x.device.type, enabled=False):
            dx, grads = _backward(ctx, grad.to(x.dtype).contiguous(memory_format=layout))
        parts = grads.to(ctx.dtype).split([shape.numel() for shape in ctx.shapes])
        return (dx, None, None, *(part.view(shape) for part, shape in zip(parts, ctx.shapes)))


def _moments(x: Tensor, fold: Fold) -> Tuple[Tensor, Tensor, Tensor, int]:
    """The shift, the mean minus the shift in float64, the covariance, and n."""
    size = x.shape[1]
    shift = torch.empty(size, dtype=torch.float32, device=x.device)
    if not fold.depthwise:
        rest = torch.empty_like(shift)
        cov = pointwise.covariance(x, shift, rest)
        return shift, rest.double(), cov, x.numel() // size
    sums = depthwise.patch_sums(x, shift, fold).sum(0, dtype=torch.float64)
    out_h, out_w = depthwise.out_shape(x, fold.stride)
    count = x.shape[0] * out_h * out_w
    upper = torch.triu_indices(9, 9, device=x.device)
    second = sums.new_empty(size, 9, 9)
    second[:, upper[0], upper[1]] = sums[:, :45]
    second[:, upper[1], upper[0]] = sums[:, :45]
    rest = sums[:, 45:] / count
    cov = second / count - rest.unsqueeze(2) * rest.unsqueeze(1)
    return shift, rest, cov.float(), count


def _backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], Tensor]:
    x, y, params, kernel, state, mean, products, *stats = ctx.saved_tensors
    fold, size, channels = ctx.fold, x.shape[1], grad.shape[1]
    kernels = branch_kernels(params, size, channels, fold)
    if fold.depthwise:
        sums = depthwise.grad_sums(x, grad, y, state, fold).sum(0, dtype=torch.float64)
        centered, total = sums[:, :9], sums[:, 9]
    else:
        part, rows = pointwise.outer_sums(grad, y, x, state, channels, False, fold.relu)
        total = rows.sum(0, dtype=torch.float64)
        used = mean - state.double() if pointwise.is_centered(x) else mean
        centered = part.sum(0, dtype=torch.float64) - torch.outer(total, used)
    grads = moment_fold.fold_backward(
        kernels, moment_fold.FoldState(mean, products, moment_fold.BranchStatistics(*stats)),
        centered.float(), total.float(), ctx.count, ctx.reduce)
    flat = flat_grads(grads, fold)
    if not ctx.needs_input_grad[0]:
        return None, flat
    quadratic, linear = grads.quadratic, grads.linear
    if fold.depthwise:
        coef = torch.cat([quadratic.permute(1, 2, 0).flatten(), linear.float().t().flatten()])
        return depthwise.input_grad(x, grad, y, kernel, coef, fold, False), flat
    if pointwise.is_centered(x):
        linear = linear + kernels.apply(quadratic, state.double())
    top = quadratic.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    vectors = torch.stack([top, linear.float()])
    quadratic = (quadratic / top.unsqueeze(1)).to(x.dtype)
    return pointwise.input_grad(x, grad, y, kernel, quadratic, vectors, state,
                                relu=fold.relu), flat
