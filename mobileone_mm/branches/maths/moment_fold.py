"""Fold branches normalized by batch statistics into one convolution, and differentiate it.

A branch b is ``BN_b(W_b p)``, p the patch that its output reads (:mod:`.moments`). With ``mu`` and
``S`` the mean and covariance of p over the batch::

    mean_b = W_b mu        var_b = diag(W_b S W_b^T)        a_b = gamma_b / sqrt(var_b + eps_b)
    kernel = sum_b diag(a_b) W_b                bias = sum_b (beta_b - a_b mean_b)

and the sum of the branches is ``kernel p + bias``, exactly. A branch whose norm is frozen takes its
running mean and variance instead and is a constant map; synchronized norms take those of all
processes.

The same serves where all branches are multiples of two maps, as in a block of one convolution: its
output y and its input x are then the two "taps" of a channel. The covariance of y and x is not
needed, since no branch reads both.

Shapes: b branches, C output channels, K taps (see :mod:`.moments`).
    weight  (b, C, K)
    vectors of one value a branch and channel: (b, C)
"""

from typing import Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .norm_algebra import mean_terms, moment_grads, variance_terms

__all__ = [
    'BranchStatistics', 'Kernels', 'DenseKernels', 'DepthwiseKernels', 'FoldState', 'FoldGrads',
    'Reduce', 'fold_bias', 'fold_backward',
]

# Sums a tensor over all processes; returns it with their total count.
Reduce = Callable[[Tensor], Tuple[Tensor, int]]


class Kernels:
    """The kernels of all branches, and the products that the fold needs of them."""

    weight: Tensor

    def project(self, mean: Tensor) -> Tensor:
        """``W_b mu``: (b, C)."""
        raise NotImplementedError

    def times(self, cov: Tensor) -> Tensor:
        """``W_b S`` of the branches with a kernel of their own: (b', C, K)."""
        raise NotImplementedError

    def variances(self, cov: Tensor, products: Tensor) -> Tensor:
        """``diag(W_b S W_b^T)``, never negative: (b, C)."""
        raise NotImplementedError

    def combine(self, scale: Tensor) -> Tensor:
        """``sum_b diag(a_b) W_b``: (C, K)."""
        raise NotImplementedError

    def inner(self, grad: Tensor) -> Tensor:
        """``diag(W_b G^T)``: (b, C)."""
        raise NotImplementedError

    def quadratic(self, scale: Tensor) -> Tensor:
        """``sum_b W_b^T diag(s_b) W_b``, of the shape of the covariance."""
        raise NotImplementedError

    def adjoint(self, vector: Tensor) -> Tensor:
        """``sum_b W_b^T v_b``, of the shape of the mean."""
        raise NotImplementedError

    def apply(self, quadratic: Tensor, mean: Tensor) -> Tensor:
        """What :meth:`quadratic` gives times a mean, in the mean's dtype."""
        raise NotImplementedError


class DepthwiseKernels(Kernels):
    """Each channel reads itself only; the identity is one more kernel.

    Args:
        weight: (b, C, K).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def project(self, mean: Tensor) -> Tensor:  # noqa: D102
        return (self.weight.to(mean.dtype) * mean).sum(2)

    def times(self, cov: Tensor) -> Tensor:  # noqa: D102
        return torch.bmm(self.weight.transpose(0, 1), cov).transpose(0, 1)

    def variances(self, cov: Tensor, products: Tensor) -> Tensor:  # noqa: D102
        return (products * self.weight).sum(2).clamp_min_(0)

    def combine(self, scale: Tensor) -> Tensor:  # noqa: D102
        return (self.weight * scale.unsqueeze(2)).sum(0)

    def inner(self, grad: Tensor) -> Tensor:  # noqa: D102
        return (self.weight * grad).sum(2)

    def quadratic(self, scale: Tensor) -> Tensor:  # noqa: D102
        scaled = (self.weight * scale.unsqueeze(2)).permute(1, 2, 0)
        return torch.bmm(scaled, self.weight.transpose(0, 1))

    def adjoint(self, vector: Tensor) -> Tensor:  # noqa: D102
        return (self.weight * vector.unsqueeze(2)).sum(0)

    def apply(self, quadratic: Tensor, mean: Tensor) -> Tensor:  # noqa: D102
        return (quadratic * mean.unsqueeze(1)).sum(2)


class DenseKernels(Kernels):
    """Every channel reads the whole patch; the identity is kept as an index, being sparse.

    Args:
        weight: (b, C, K), without the identity.
        identity: (C,), which tap each channel of the identity branch copies; ``None`` without such
            a branch. It comes last in all (b, C) vectors.
    """

    def __init__(self, weight: Tensor, identity: Optional[Tensor] = None) -> None:
        self.weight = weight
        self.identity = identity

    def project(self, mean: Tensor) -> Tensor:  # noqa: D102
        own = self.weight.to(mean.dtype) @ mean
        return own if self.identity is None else torch.cat([own, mean[None, self.identity]])

    def times(self, cov: Tensor) -> Tensor:  # noqa: D102
        return (self.weight.flatten(0, 1) @ cov).view_as(self.weight)

    def variances(self, cov: Tensor, products: Tensor) -> Tensor:  # noqa: D102
        own = (products * self.weight).sum(2)
        if self.identity is not None:
            own = torch.cat([own, cov.diagonal()[None, self.identity]])
        return own.clamp_min_(0)

    def combine(self, scale: Tensor) -> Tensor:  # noqa: D102
        own = len(self.weight)
        kernel = torch.mul(self.weight[0], scale[0].unsqueeze(1))
        for weight, a in zip(self.weight[1:], scale[1:own]):
            kernel.addcmul_(weight, a.unsqueeze(1))
        if self.identity is not None:
            kernel[torch.arange(len(kernel), device=kernel.device), self.identity] += scale[own]
        return kernel

    def inner(self, grad: Tensor) -> Tensor:  # noqa: D102
        own = (self.weight * grad).sum(2)
        if self.identity is None:
            return own
        return torch.cat([own, grad.gather(1, self.identity.unsqueeze(1)).t()])

    def quadratic(self, scale: Tensor) -> Tensor:  # noqa: D102
        own = len(self.weight)
        flat = self.weight.flatten(0, 1)
        result = (flat * scale[:own].reshape(-1, 1)).t() @ flat
        if self.identity is not None:
            result[self.identity, self.identity] += scale[own]
        return result

    def adjoint(self, vector: Tensor) -> Tensor:  # noqa: D102
        own = len(self.weight)
        result = self.weight.flatten(0, 1).t() @ vector[:own].flatten()
        if self.identity is not None:
            result[self.identity] += vector[own]
        return result

    def apply(self, quadratic: Tensor, mean: Tensor) -> Tensor:  # noqa: D102
        return quadratic.to(mean.dtype) @ mean


def fold_bias(kernel: Tensor, mean: Tensor, beta: Tensor, scale: Tensor,
              shift: Optional[Tensor]) -> Tensor:
    """The folded bias, from the kernel as it will be used.

    ``bias = sum_b beta_b - kernel mu + sum_b a_b (W_b mu - mean_b)``. With batch statistics the
    last term is zero. Taking ``kernel mu`` of the *rounded* kernel makes its rounding errors cancel
    at the mean.

    Args:
        kernel: (C, K), already rounded to the dtype of the convolution.
        mean: ``mu`` in float64, (K,) or (C, K).
        beta: (b, C).
        scale: a, (b, C).
        shift: ``W_b mu - mean_b``, (b, C); ``None`` where all are zero.

    Returns:
        (C,) in float64.
    """
    kernel = kernel.double()
    at_mean = kernel @ mean if mean.dim() == 1 else (kernel * mean).sum(1)
    bias = beta.double().sum(0) - at_mean
    if shift is not None:
        bias += (scale.double() * shift).sum(0)
    return bias


class FoldGrads(NamedTuple):
    """What :func:`fold_backward` gives.

    ``weight`` (b', C, K) of the branches with a kernel of their own, ``gamma`` (b, C) and, the same
    for all, ``beta`` (C,); the patches get ``dp_o = kernel g_o + quadratic p_o + linear``, the
    latter in float64.
    """

    weight: Tensor
    gamma: Tensor
    beta: Tensor
    quadratic: Tensor
    linear: Tensor


class BranchStatistics(NamedTuple):
    """What the norms of a block make of the moments of their inputs, (b, C) each.

    ``scale`` is a, ``inv`` is ``1 / sqrt(var + eps)``, ``batch`` (b, 1) is 1 for norms that use the
    batch and 0 for others, ``None`` where all do; ``shift`` is this batch's mean less the mean in
    use, ``None`` where all are zero.
    """

    scale: Tensor
    inv: Tensor
    batch: Optional[Tensor]
    shift: Optional[Tensor]


class FoldState(NamedTuple):
    """What the backward of a fold needs of its forward.

    ``mean`` of the patches as the backward reads them, float64 (K,) or (C, K); ``products``
    ``W_b S`` (b', C, K); ``norms``: what they made of it.
    """

    mean: Tensor
    products: Tensor
    norms: BranchStatistics


def fold_backward(kernels: Kernels, state: FoldState, grad_kernel: Tensor, grad_bias: Tensor,
                  count: int, reduce: Optional[Reduce] = None) -> FoldGrads:
    """From the folded convolution's own gradients to those of all branches and of the patches.

    With ``G = grad_kernel - grad_bias mu^T`` (so centered, ``G = sum_o g_o (p_o - mu)^T``)::

        da_b = diag(W_b G^T)      dgamma_b = da_b inv_b      dbeta_b = grad_bias
        dvar_b = -a_b inv_b^2 da_b / 2                       dmean_b = -a_b grad_bias
        dW_b = diag(a_b) G + 2 diag(dvar_b) W_b S
        dp_o = kernel^T g_o + 2/n sum_b W_b^T diag(dvar_b) W_b (p_o - mu) + sum_b W_b^T dmean_b / n

    and further terms in ``W_b mu - mean_b`` for frozen and synchronized norms, whose mean is not
    that of this batch.

    Args:
        kernels: The branches.
        state: Of the forward.
        grad_kernel: G, (C, K): the folded kernel's gradient *centered* as above.
        grad_bias: (C,).
        count: n of this process.
        reduce: Sums a tensor over all processes and returns it with their total count; ``None``
            without synchronized norms.
    """
    dtype = grad_kernel.dtype
    scale, inv, batch, shift = state.norms
    shift = None if shift is None else shift.to(dtype)
    d_scale = kernels.inner(grad_kernel)
    if shift is not None:
        d_scale = d_scale + grad_bias * shift
    d_gamma, d_var, d_mean = moment_grads(d_scale, grad_bias, scale, inv)
    if batch is not None:
        d_var, d_mean = d_var * batch, d_mean * batch
    total = count
    if reduce is not None:
        (d_var, d_mean), total = reduce(torch.stack([d_var, d_mean]))
    own = len(state.products)
    twice, square = variance_terms(d_var, count, total)
    d_weight = state.products * twice[:own].unsqueeze(2)
    d_weight.addcmul_(scale[:own].unsqueeze(2), grad_kernel)
    per_mean = d_mean
    if shift is not None:
        per_mean, along_mean = mean_terms(d_var, d_mean, scale, grad_bias, shift,
                                          count / total)
        d_weight += along_mean[:own].unsqueeze(2) * state.mean.to(dtype)
    quadratic = kernels.quadratic(square)
    linear = kernels.adjoint(per_mean / total).double() - kernels.apply(quadratic, state.mean)
    return FoldGrads(d_weight, d_gamma, grad_bias, quadratic, linear)
