"""Fold branches normalized by batch statistics into one convolution, and differentiate it.

A branch b computes ``BN_b(W_b p)``, where p is the patch that an output reads (:mod:`.moments`).
Let ``mu`` and ``S`` be the mean and covariance of p over the batch. Then::

    mean_b = W_b mu        var_b = diag(W_b S W_b^T)        a_b = gamma_b / sqrt(var_b + eps_b)
    kernel = sum_b diag(a_b) W_b                bias = sum_b (beta_b - a_b mean_b)

and the sum of the branches is exactly ``kernel p + bias``. A branch with a frozen norm uses its
running mean and variance instead, so its map is constant. Synchronized norms use the statistics of
all processes.

The same formulas work if all branches are multiples of two maps, as in a block with a single
convolution. Its output y and its input x are then the two "taps" of a channel. The covariance of y
and x is not needed, since no branch reads both.

Shapes, for b branches, C output channels and K taps (see :mod:`.moments`)::

    weight  (b, C, K)
    vectors with one value per branch and channel: (b, C)
"""

from typing import Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .norm_algebra import mean_terms, moment_grads, variance_terms

__all__ = [
    'BranchStatistics', 'Kernels', 'DenseKernels', 'DepthwiseKernels', 'FoldState', 'FoldGrads',
    'Reduce', 'fold_bias', 'fold_backward',
]

# Sums a tensor over all processes; returns it with the total count.
Reduce = Callable[[Tensor], Tuple[Tensor, int]]


class Kernels:
    """The kernels of all branches, and their products that the fold needs."""

    weight: Tensor

    def project(self, mean: Tensor) -> Tensor:
        """``W_b mu``: (b, C)."""
        raise NotImplementedError

    def times(self, cov: Tensor) -> Tensor:
        """``W_b S`` for the b' branches with a stored kernel: (b', C, K)."""
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
        """``sum_b W_b^T diag(s_b) W_b``, with the shape of the covariance."""
        raise NotImplementedError

    def adjoint(self, vector: Tensor) -> Tensor:
        """``sum_b W_b^T v_b``, with the shape of the mean."""
        raise NotImplementedError

    def apply(self, quadratic: Tensor, mean: Tensor) -> Tensor:
        """The result of :meth:`quadratic` times a mean, in the mean's dtype."""
        raise NotImplementedError


class DepthwiseKernels(Kernels):
    """Kernels whose channels only read themselves; the identity is one more kernel.

    Args:
        weight: (b, C, K).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def project(self, mean: Tensor) -> Tensor:  # noqa: D102
        return (self.weight * mean).sum(2)

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
    """Kernels whose channels read the whole patch; the sparse identity is stored as an index.

    Args:
        weight: (b, C, K), without the identity.
        identity: (C,), the tap that each channel of the identity branch copies; ``None`` without an
            identity branch. It comes last in all (b, C) vectors.
    """

    def __init__(self, weight: Tensor, identity: Optional[Tensor] = None) -> None:
        self.weight = weight
        self.identity = identity

    def project(self, mean: Tensor) -> Tensor:  # noqa: D102
        own = self.weight.to(mean.dtype) @ mean
        return own if self.identity is None else torch.cat([own, mean[None, self.identity]])

    def times(self, cov: Tensor) -> Tensor:  # noqa: D102
        return self.weight @ cov

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
    """The folded bias for the rounded kernel.

    ``bias = sum_b beta_b - kernel mu + sum_b a_b (W_b mu - mean_b)``. With batch statistics, the
    last term is zero. Since ``kernel mu`` uses the *rounded* kernel, its rounding errors cancel at
    the mean.

    Args:
        kernel: (C, K), already rounded to the dtype of the convolution.
        mean: ``mu`` in float64, (K,) or (C, K).
        beta: (b, C).
        scale: a, (b, C).
        shift: ``W_b mu - mean_b``, (b, C); ``None`` if all are zero.

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
    """The result of :func:`fold_backward`.

    ``weight`` (b', C, K) for the branches with a stored kernel, ``gamma`` (b, C), and ``beta``
    (C,), which all branches share. The gradient of the patches is
    ``dp_o = kernel g_o + quadratic p_o + linear``, with ``linear`` in float64.
    """

    weight: Tensor
    gamma: Tensor
    beta: Tensor
    quadratic: Tensor
    linear: Tensor


class BranchStatistics(NamedTuple):
    """The norms' values for the moments of their inputs, (b, C) each.

    ``scale`` is a. ``inv`` is ``1 / sqrt(var + eps)``. ``batch`` (b, 1) is 1 for norms that use
    batch statistics and 0 for others, or ``None`` if all use them. ``shift`` is the batch mean
    minus the mean in use, or ``None`` if all are zero.
    """

    scale: Tensor
    inv: Tensor
    batch: Optional[Tensor]
    shift: Optional[Tensor]


class FoldState(NamedTuple):
    """Values that the backward of a fold needs from its forward.

    ``mean`` is the mean of the patches as the backward reads them, float64 (K,) or (C, K).
    ``products`` is ``W_b S`` (b', C, K). ``norms`` holds the norms' values.
    """

    mean: Tensor
    products: Tensor
    norms: BranchStatistics


def fold_backward(kernels: Kernels, state: FoldState, grad_kernel: Tensor, grad_bias: Tensor,
                  count: int, reduce: Optional[Reduce] = None) -> FoldGrads:
    """Turn the folded convolution's gradients into those of all branches and of the patches.

    Let ``G = grad_kernel - grad_bias mu^T`` be the centered gradient, ``sum_o g_o (p_o - mu)^T``.
    Then::

        da_b = diag(W_b G^T)      dgamma_b = da_b inv_b      dbeta_b = grad_bias
        dvar_b = -a_b inv_b^2 da_b / 2                       dmean_b = -a_b grad_bias
        dW_b = diag(a_b) G + 2 diag(dvar_b) W_b S
        dp_o = kernel^T g_o + 2/n sum_b W_b^T diag(dvar_b) W_b (p_o - mu) + sum_b W_b^T dmean_b / n

    plus terms in ``W_b mu - mean_b`` for frozen and synchronized norms, whose mean is not the mean
    of this batch.

    Args:
        kernels: The kernels of the branches.
        state: The state from the forward.
        grad_kernel: G, (C, K): the *centered* gradient of the folded kernel.
        grad_bias: (C,).
        count: n of this process.
        reduce: Sums a tensor over all processes and returns it with the total count; ``None``
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
