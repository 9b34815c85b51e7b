"""The fold of :mod:`~mobileone_mm.branches.maths.moment_fold` for a channel that reads K values.

Those are the nine of its patch for a depthwise convolution. For a block of one pointwise
convolution they are that convolution's output y and the block's input x, of which each branch reads
one. Here everything is in float64, one number at a time, so that a kernel can go on with the
channel while its planes are in the cache.

Shapes: b branches, K taps. Of all channels: weight (b, C, K), vectors (b, C).
"""

from typing import NamedTuple

import numpy as np

from ...maths import norm_algebra
from .jit import jit

__all__ = ['Branches', 'Grads', 'State', 'fold', 'fold_backward', 'fold_bias', 'fold_branch',
           'fold_branch_backward', 'normalize', 'normalize_backward']

_norm_scale = jit(norm_algebra.norm_scale)
_moment_grads = jit(norm_algebra.moment_grads)
_variance_terms = jit(norm_algebra.variance_terms)
_mean_terms = jit(norm_algebra.mean_terms)


class Branches(NamedTuple):
    """What is known about the branches before the pass.

    ``batch`` (b,): 1 for norms with batch statistics, 0 for frozen ones, which use ``mean`` and
    ``var`` (b, C); ``eps`` (b,).
    """

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    batch: np.ndarray
    eps: np.ndarray


class State(NamedTuple):
    """What the forward pass computes.

    ``mean`` (C, K) of the taps; ``products`` ``W_b S`` (b, C, K); ``kernel`` (C, K), ``bias`` (C,);
    (b, C): a, ``1 / sqrt(var + eps)``, and this batch's mean, variance, and mean less the mean in
    use; ``origin`` (C,), what is taken off the maps so that sums do not cancel: zero where the mean
    is small. ``kernel``, ``products`` and ``origin`` in the maps' dtype, the rest in float64.
    """

    mean: np.ndarray
    products: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    inv: np.ndarray
    batch_mean: np.ndarray
    batch_var: np.ndarray
    shift: np.ndarray
    origin: np.ndarray


class Grads(NamedTuple):
    """Of the branches: weight (b, C, K), gamma (b, C) and, the same for all, beta (C,)."""

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


@jit
def normalize(b: int, c: int, mean: float, var: float, branches: Branches, state: State) -> tuple:
    """A branch's scale, and its offset ``beta + scale (mean - mean in use)``; fills the state."""
    used_mean, used_var = mean, var
    if branches.batch[b] == 0:
        used_mean, used_var = branches.mean[b, c], branches.var[b, c]
    scale, inv = _norm_scale(branches.gamma[b, c], used_var, branches.eps[b])
    shift = mean - used_mean
    state.inv[b, c], state.scale[b, c], state.shift[b, c] = inv, scale, shift
    state.batch_mean[b, c], state.batch_var[b, c] = mean, var
    return scale, branches.beta[b, c] + scale * shift


@jit
def normalize_backward(b: int, c: int, dot: float, grad_bias: float, count: int,
                       branches: Branches, state: State, grad_gamma: np.ndarray) -> tuple:
    """What :func:`fold_backward` needs of a branch's norm; fills ``grad_gamma``.

    Factors of ``W S``, of ``W (p_o - mean)``, of W and, for the kernel's gradient, of the mean.
    ``dot`` is ``sum_o g_o (W p_o - mean)``.
    """
    scale, inv, shift = state.scale[b, c], state.inv[b, c], state.shift[b, c]
    grad_gamma[b, c], d_var, d_mean = _moment_grads(dot + grad_bias * shift, grad_bias, scale, inv)
    d_var, d_mean = d_var * branches.batch[b], d_mean * branches.batch[b]
    twice, square = _variance_terms(d_var, count, count)
    per_mean, along_mean = _mean_terms(d_var, d_mean, scale, grad_bias, shift, 1.)
    return twice, square, per_mean / count, along_mean


@jit
def fold_branch(b: int, c: int, product: np.ndarray, mean: np.ndarray, branches: Branches,
                state: State) -> tuple:
    """:func:`normalize` of a branch with a weight; ``product`` (K,) is its ``W S``."""
    w = branches.weight[b, c]
    own_mean = own_var = 0.
    for t in range(w.size):
        own_mean += w[t] * mean[t]
        own_var += w[t] * product[t]
    return normalize(b, c, own_mean, max(own_var, 0.), branches, state)


@jit
def fold_bias(c: int, bias: float, mean: np.ndarray, state: State) -> None:
    """Write the bias, of the branches' offsets and the kernel.

    Of the rounded kernel: so its rounding errors cancel at the mean.
    """
    kernel = state.kernel[c]
    for t in range(kernel.size):
        bias -= kernel[t] * mean[t]
    state.bias[c] = bias


@jit
def fold(c: int, branches: Branches, mean: np.ndarray, cov: np.ndarray, state: State) -> None:
    """From mean (K,) and covariance (K, K) of the taps to channel c of the state."""
    taps = mean.size
    total, product = np.zeros(taps), np.empty(taps)
    bias = 0.
    for b in range(branches.weight.shape[0]):
        w = branches.weight[b, c]
        for t in range(taps):
            s = 0.
            for u in range(taps):
                s += cov[t, u] * w[u]
            state.products[b, c, t] = product[t] = s
        scale, offset = fold_branch(b, c, product, mean, branches, state)
        bias += offset
        for t in range(taps):
            total[t] += scale * w[t]
    state.mean[c] = mean
    state.kernel[c] = total
    fold_bias(c, bias, mean, state)


@jit
def fold_branch_backward(b: int, c: int, grad: np.ndarray, grad_bias: float, mean: np.ndarray,
                         branches: Branches, state: State, count: int, grads: Grads) -> tuple:
    """Write a branch's gradients; returns the factors of ``W (p_o - mean)`` and of W."""
    w, product, to = branches.weight[b, c], state.products[b, c], grads.weight[b, c]
    dot = 0.
    for t in range(w.size):
        dot += w[t] * grad[t]
    twice, square, linear, along = normalize_backward(b, c, dot, grad_bias, count, branches, state,
                                                      grads.gamma)
    of = grad.dtype.type
    scale, twice = of(state.scale[b, c]), of(twice)
    for t in range(w.size):
        to[t] = scale * grad[t] + twice * product[t]
    if along != 0:
        for t in range(w.size):
            to[t] += along * mean[t]
    return square, linear


@jit
def fold_backward(c: int, branches: Branches, state: State, grad_kernel: np.ndarray,
                  grad_bias: float, count: int, grads: Grads, terms: np.ndarray) -> None:
    """As :func:`mobileone_mm.branches.maths.moment_fold.fold_backward`.

    ``grad_kernel`` (K,) is ``sum_o g_o (p_o - mean)``, ``grad_bias`` ``sum_o g_o``. Writes channel
    c of ``grads``. Branch b's ``W_b p_o`` gets ``scale_b g_o + quadratic_b W_b (p_o - mean) +
    linear_b``: ``terms`` (2, b) are quadratic and linear.
    """
    grads.beta[c] = grad_bias
    for b in range(branches.weight.shape[0]):
        terms[0, b], terms[1, b] = fold_branch_backward(
            b, c, grad_kernel, grad_bias, state.mean[c], branches, state, count, grads)
