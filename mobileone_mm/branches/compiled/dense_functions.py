"""The branches of a pointwise block (k >= 2) as one convolution, folded by compiled loops."""

from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from ..autocast import plain_backward
from ..maths import moments as mo
from ..plan import BranchPlan
from . import run
from .available import compiled_masked_grad
from .kernels import dense, taps
from .stacks import branches_of, new_grads, new_state, split_state, update_norms

__all__ = ['CompiledDense']


class CompiledDense(Function):
    """``relu(sum_b BN_b(W_b x))`` as one convolution; keeps x and the output only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BranchPlan,  # noqa: D102
                *tensors: Optional[Tensor]) -> Tensor:
        parts = plan.split(tensors)
        weight = _weight(parts.weights)
        mean, cov, count = _moments(x)
        branches = branches_of(plan, weight.numpy(), parts)
        state, saved = new_state(branches, own_means=False)
        torch.mm(weight.flatten(0, 1), cov, out=torch.from_numpy(state.products).flatten(0, 1))
        run(dense.forward, weight, branches, mean, cov, state)
        kernel = torch.from_numpy(state.kernel)
        y = F.conv2d(x, kernel.view(*kernel.shape, 1, 1),
                     torch.from_numpy(state.bias).to(x.dtype)).contiguous()
        if plan.relu:
            y.relu_()
        update_norms(plan, state, count)
        ctx.plan, ctx.count = plan, count
        ctx.small_means = mo.are_small(mean, cov.diagonal())
        ctx.save_for_backward(x, y if plan.relu else None, mean, *saved, *tensors)
        return y

    @staticmethod
    @plain_backward
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:  # noqa: D102
        x, out, mean, exact, rounded, *tensors = ctx.saved_tensors
        plan, count = ctx.plan, ctx.count
        weights = plan.split(tensors).weights
        weight = _weight(weights)
        branches = branches_of(plan, weight.numpy())
        state = split_state(branches, exact, rounded)
        grads = new_grads(branches)
        grad, sums = compiled_masked_grad(grad, out)
        grads.beta[:] = sums.numpy()
        kernel, offset = torch.from_numpy(state.kernel), torch.zeros_like(mean)
        if not ctx.small_means:  # otherwise centering the kernel's gradient is as good
            mean_grad = sums / count
            grad.sub_(mean_grad.to(grad.dtype).view(1, -1, 1, 1))
            offset = mean_grad @ kernel.double()
        grad_kernel = torch.ops.aten.convolution_backward(
            grad, x, kernel.view(*kernel.shape, 1, 1), None, [1, 1], [0, 0], [1, 1], False, [0, 0],
            1, [False, True, False])[1].flatten(1)
        if ctx.small_means:
            grad_kernel.addr_(sums.to(x.dtype), mean.to(x.dtype), alpha=-1)
        scaled, linear = torch.empty_like(weight), torch.empty_like(weight[:, :, 0])
        diagonal = sums.new_zeros(2, len(sums))
        terms = dense.InputTerms(scaled.numpy(), linear.numpy(), diagonal.numpy())
        run(dense.backward, weight, branches, mean, state, grad_kernel, count, grads, terms)
        grad_x = None
        if ctx.needs_input_grad[0]:
            flat = weight.flatten(0, 1)
            quadratic = x.new_zeros(flat.shape[1], flat.shape[1])
            mo.add_symmetric_product(quadratic, scaled.flatten(0, 1).t(), flat)
            mo.mirror(quadratic)
            offset += linear.flatten() @ flat
            if plan.has_skip:
                quadratic.diagonal().add_(diagonal[0])
                offset += diagonal[1]
            offset -= (quadratic @ mean.to(x.dtype)).double()
            grad_x = mo.dense_input_grad(x, plan.shape, quadratic, offset.to(x.dtype), grad, kernel)
        found, gamma, beta = map(torch.from_numpy, grads)
        weight_grads = plan.split_weight_grads(found, weights)
        return (grad_x, None, *plan.grads(tensors, weight_grads, gamma, beta))


def _moments(x: Tensor) -> mo.Moments:
    """Like :func:`mobileone_mm.branches.maths.moments.dense_moments`, of positions."""
    mean, var = x.new_empty(2, x.shape[1], dtype=torch.float64).unbind()
    run(taps.channel_moments, x, x.flatten(2), mean, var)
    if not mo.are_small(mean, var):
        return mo.dense_moments(x, mo.ConvShape())
    count = x.numel() // x.shape[1]
    return mo.Moments(mean, mo.remove_mean_(mo.gram(x).div_(count), mean), count)


def _weight(weights: Sequence[Tensor]) -> Tensor:
    """(k, C_out, C_in)."""
    return torch.stack([w.detach().flatten(1) for w in weights])
