"""One convolution with batch norm, scale and identity branches, fused (k = 1)."""

from typing import Any, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ..autocast import plain_backward
from ..convolution import (
    _convolution_backward,
    at_outputs,
    convolution_grads,
    convolve,
    keeps_output,
)
from ..map_ops import (
    add_scaled_,
    channel_affine,
    channel_dots,
    like_format,
    norm_backward,
)
from ..maths import moment_fold as fold
from ..maths import moments as mo
from ..norms import normalize, reduce_over, stack_affine, sync_groups
from ..plan import BranchPlan

__all__ = ['FusedBranches']


class FusedBranches(Function):
    """``relu(a_1 y + a_2 x + c)`` with ``y = W x``; keeps x, the output and maybe y.

    y and x at the outputs' positions are the two taps of the fold; a channel reads no others.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        weights, gammas, betas = plan.split(tensors)
        y = convolve(x, weights[0], plan)
        dtype = mo.accumulation_dtype(y.dtype)
        sources = [mo.nearly_centered(y.to(dtype), inplace=True)]
        if len(plan.norms) > 1:
            sources.append(mo.nearly_centered(at_outputs(x, y, plan.shape.stride).to(dtype)))
        count = y.numel() // y.shape[1]
        rest, cov, _ = mo.Moments.of_sums(
            torch.stack([source.sums for source in sources], 1),
            torch.stack([source.squares for source in sources], 1).double().diag_embed(), count)
        mean = rest.clone()
        for column, source in zip(mean.unbind(1), sources):
            if source.shift is not None:
                column += source.shift
        kernels = _kernels(weights, plan)
        products = kernels.times(cov)
        branch_mean, branch_var = kernels.project(mean), kernels.variances(cov, products)
        stats = normalize(plan.norms, stack_affine(gammas, 1., branch_mean, dtype), branch_mean,
                          branch_var, count)
        slopes = kernels.combine(stats.scale).to(dtype)
        beta = stack_affine(betas, 0., branch_mean, dtype)
        offset = fold.fold_bias(slopes, rest, beta, stats.scale, stats.shift)
        out = channel_affine(sources[0].x, slopes[:, 0], offset.to(dtype))
        if len(sources) > 1:
            add_scaled_(out, sources[1].x, slopes[:, 1])
        if plan.relu:
            out.relu_()
        out = out.to(x.dtype)
        ctx.plan, ctx.count, ctx.reduce = plan, count, None
        for group in sync_groups(plan.norms):
            ctx.reduce = reduce_over(group, count)
        # As the backward pass reads them: y is kept centered, x is not.
        mean = torch.cat([rest[:, :1], mean[:, 1:]], 1)
        ctx.save_for_backward(x, y if keeps_output(y, plan) else None, out if plan.relu else None,
                              sources[0].shift, slopes, mean, products, *stats, *tensors)
        return out

    @staticmethod
    @plain_backward
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        (x, y, out, shift_y, slopes, mean, products, scale, inv, batch, shift,
         *tensors) = ctx.saved_tensors
        plan, dtype = ctx.plan, slopes.dtype
        weights = plan.split(tensors).weights
        # What was kept in float32 is already centered: it was centered in place.
        is_centered = shift_y is None or y is not None and y.dtype == dtype
        if y is None:
            y = convolve(x, weights[0], plan)
        sources = [y.to(dtype) if is_centered else y.to(dtype).sub_(shift_y.view(1, -1, 1, 1))]
        if len(plan.norms) > 1:
            sources.append(at_outputs(x, y, plan.shape.stride).to(dtype))
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        g = like_format(grad, y).to(dtype)
        state = fold.FoldState(mean, products, fold.BranchStatistics(scale, inv, batch, shift))
        slopes = slopes.t()
        tap_grads = [
            # A tap that only one norm reads gets its gradient from that norm's own backward pass.
            norm_backward(g, source, slope, at, own_inv)
            if batch is None and shift is None and (i == 0 or not plan.has_scale)
            else (None, *channel_dots(g, source, at))
            for i, (source, slope, at, own_inv) in enumerate(
                zip(sources, slopes, mean.t().to(dtype), inv.to(dtype)))]
        known, dots, (total, *_) = zip(*tap_grads)
        grads = fold.fold_backward(_kernels(weights, plan), state, torch.stack(dots, 1).double(),
                                   total.double(), ctx.count, ctx.reduce)
        quadratic, linear = torch.stack(
            [grads.quadratic.diagonal(dim1=1, dim2=2).t(), grads.linear.t()]).to(dtype).unbind()
        grad_y, *own = map(_TapGrad, sources, quadratic, linear, [g] * 2, slopes, known)
        grad_x, *weight_grads = _input_and_weight_grad(
            ctx, x, weights[0], grad_y.tensor().to(x.dtype), *own)
        if plan.has_scale:
            weight_grads.append(grads.weight[1, :, 1])
        return (grad_x, None, *plan.grads(tensors, weight_grads, grads.gamma, total))


def _kernels(weights: Sequence[Tensor], plan: BranchPlan) -> fold.DepthwiseKernels:
    """Terms of y and, if a branch reads it, x: few numbers, all in float64."""
    weight = plan.tap_weight(weights, torch.float64)
    return fold.DepthwiseKernels(weight if len(plan.norms) > 1 else weight[:, :, :1])


class _TapGrad(NamedTuple):
    """The gradient of a tap s: ``slope g + quadratic s + linear``; ``known`` if computed."""

    s: Tensor
    quadratic: Tensor
    linear: Tensor
    g: Tensor
    slope: Tensor
    known: Optional[Tensor]

    def tensor(self) -> Tensor:
        if self.known is not None:
            return self.known
        return add_scaled_(channel_affine(self.s, self.quadratic, self.linear), self.g, self.slope)

    def add_all_but_linear_(self, out: Tensor) -> Tensor:
        return add_scaled_(add_scaled_(out, self.s, self.quadratic), self.g, self.slope)


def _input_and_weight_grad(ctx: Any, x: Tensor, weight: Tensor, grad: Tensor,
                           own: Optional[_TapGrad] = None) -> Tuple[Optional[Tensor], Tensor]:
    """:func:`convolution_grads`, before ``own`` is computed."""
    shape, needs_x = ctx.plan.shape, ctx.needs_input_grad[0]
    same_size = shape.stride == 1 and 2 * shape.padding == shape.dilation * (shape.kernel_size - 1)
    if not (own and needs_x and same_size and ctx.plan.depthwise and own.s.dtype == x.dtype):
        return convolution_grads(ctx, x, weight, grad, own.tensor() if own and needs_x else None)
    # The input's gradient as a forward convolution adds the constant for free.
    _, grad_w = _convolution_backward(ctx, x, weight, grad, [False, True, False])
    grad_x = F.conv2d(grad, weight.to(x.dtype).flip(2, 3), own.linear, 1, shape.padding,
                      shape.dilation, x.shape[1])
    return own.add_all_but_linear_(like_format(grad_x, grad)), grad_w.to(weight.dtype)
