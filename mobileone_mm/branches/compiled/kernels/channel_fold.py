"""The fold of :mod:`~mobileone_mm.branches.maths.moment_fold` for a channel that reads K values.

For a depthwise convolution, these are the nine values of its patch. For a block with a single
pointwise convolution, they are its output y and the block's input x; each branch reads one of them.
Everything is computed in float64, one number at a time, so that a kernel can continue with the
channel while its planes are in the cache.

Shapes: b branches, K taps. For all channels: weight (b, C, K), vectors (b, C).
"""

from typing import NamedTuple

import numpy as np

from ...maths import norm_algebra
from .jit import inlined, jit

__all__ = ['Branches', 'Grads', 'State', 'branch_moments', 'fold', 'fold_backward', 'fold_bias',
           'inner', 'normalize', 'normalize_backward', 'weight_grad']

_norm_scale = jit(norm_algebra.norm_scale)
_moment_grads = jit(norm_algebra.moment_grads)
_variance_terms = jit(norm_algebra.variance_terms)
_mean_terms = jit(norm_algebra.mean_terms)


class Branches(NamedTuple):
    """The branches before the pass.

    ``batch`` (b,) is 1 for norms with batch statistics and 0 for frozen norms, which use ``mean``
    and ``var`` (b, C). ``eps`` has shape (b,).
    """

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    batch: np.ndarray
    eps: np.ndarray


class State(NamedTuple):
    """The results of the forward pass.

    ``mean`` (C, K) of the taps; ``products``, ``W_b S`` (b, C, K); ``kernel`` (C, K) and ``bias``
    (C,). With shape (b, C): ``scale``, a; ``inv``, ``1 / sqrt(var + eps)``; the batch mean and
    variance; and ``shift``, the batch mean minus the mean in use. ``origin`` (C,) is subtracted
    from the maps so that sums do not cancel; it is zero if the mean is small. ``kernel``,
    ``products`` and ``origin`` have the maps' dtype, the rest is in float64.
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
    """Gradients of the branches: weight (b, C, K), gamma (b, C), and beta (C,), which all share."""

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


@inlined
def normalize(b: int, c: int, mean: float, var: float, branches: Branches, state: State) -> tuple:
    """A branch's scale and its offset ``beta + scale (mean - mean in use)``; fills the state."""
    used_mean, used_var = mean, var
    if branches.batch[b] == 0:
        used_mean, used_var = branches.mean[b, c], branches.var[b, c]
    scale, inv = _norm_scale(branches.gamma[b, c], used_var, branches.eps[b])
    shift = mean - used_mean
    state.inv[b, c], state.scale[b, c], state.shift[b, c] = inv, scale, shift
    state.batch_mean[b, c], state.batch_var[b, c] = mean, var
    return scale, branches.beta[b, c] + scale * shift


@inlined
def normalize_backward(b: int, c: int, dot: float, grad_bias: float, count: int,
                       branches: Branches, state: State, grad_gamma: np.ndarray) -> tuple:
    """The factors of a branch's norm for :func:`fold_backward`; fills ``grad_gamma``.

    They are the factors of ``W S``, of ``W (p_o - mean)``, of W and, in the kernel's gradient, of
    the mean. ``dot`` is ``sum_o g_o (W p_o - mean)``.
    """
    scale, inv, shift = state.scale[b, c], state.inv[b, c], state.shift[b, c]
    grad_gamma[b, c], d_var, d_mean = _moment_grads(dot + grad_bias * shift, grad_bias, scale, inv)
    d_var, d_mean = d_var * branches.batch[b], d_mean * branches.batch[b]
    twice, square = _variance_terms(d_var, count, count)
    per_mean, along_mean = _mean_terms(d_var, d_mean, scale, grad_bias, shift, 1.)
    return twice, square, per_mean / count, along_mean


@inlined
def branch_moments(w: np.ndarray, product: np.ndarray, mean: np.ndarray) -> tuple:
    """Mean and variance of ``W p``; all (K,), ``product`` is ``W S``."""
    own_mean = own_var = 0.
    for t in range(w.size):
        own_mean += w[t] * mean[t]
        own_var += w[t] * product[t]
    return own_mean, max(own_var, 0.)


@inlined
def fold_bias(c: int, bias: float, mean: np.ndarray, state: State) -> None:
    """Write the bias, from the branches' offsets and the kernel.

    It uses the rounded kernel, whose rounding errors then cancel at the mean.
    """
    kernel = state.kernel[c]
    for t in range(kernel.size):
        bias -= kernel[t] * mean[t]
    state.bias[c] = bias


@jit
def fold(c: int, branches: Branches, mean: np.ndarray, cov: np.ndarray, state: State) -> None:
    """Fill channel c of the state from the taps' mean (K,) and covariance (K, K)."""
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
        own_mean, own_var = branch_moments(w, product, mean)
        scale, offset = normalize(b, c, own_mean, own_var, branches, state)
        bias += offset
        for t in range(taps):
            total[t] += scale * w[t]
    state.mean[c] = mean
    state.kernel[c] = total
    fold_bias(c, bias, mean, state)


@inlined
def inner(b: int, c: int, weight: np.ndarray, grad: np.ndarray) -> float:
    """A branch's ``sum_t w_t grad_t`` in float64."""
    dot = 0.
    for t in range(grad.size):
        dot += weight[b, c, t] * grad[t]
    return dot


@inlined
def weight_grad(b: int, c: int, grad: np.ndarray, mean: np.ndarray, twice: float, along: float,
                state: State, grads: Grads) -> None:
    """Write a branch's ``scale grad + twice W S + along mean``; grad and mean (K,)."""
    of = grad.dtype.type
    scale, factor = of(state.scale[b, c]), of(twice)
    if along == 0:
        for t in range(grad.size):
            grads.weight[b, c, t] = scale * grad[t] + factor * state.products[b, c, t]
    else:
        for t in range(grad.size):
            grads.weight[b, c, t] = (scale * grad[t] + factor * state.products[b, c, t]
                                     + along * mean[t])


@jit
def fold_backward(c: int, branches: Branches, state: State, grad_kernel: np.ndarray,
                  grad_bias: float, count: int, grads: Grads, terms: np.ndarray) -> None:
    """See :func:`mobileone_mm.branches.maths.moment_fold.fold_backward`.

    ``grad_kernel`` (K,) is ``sum_o g_o (p_o - mean)``, and ``grad_bias`` is ``sum_o g_o``. Writes
    channel c of ``grads``. The gradient of branch b's ``W_b p_o`` is ``scale_b g_o + quadratic_b
    W_b (p_o - mean) + linear_b``; ``terms`` (2, b) holds quadratic and linear.
    """
    grads.beta[c] = grad_bias
    mean = state.mean[c]
    for b in range(branches.weight.shape[0]):
        twice, terms[0, b], terms[1, b], along = normalize_backward(
            b, c, inner(b, c, branches.weight, grad_kernel), grad_bias, count, branches, state,
            grads.gamma)
        weight_grad(b, c, grad_kernel, mean, twice, along, state, grads)
