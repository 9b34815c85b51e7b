"""The fold of pointwise convolutions (k >= 2), except for its matrix products.

Each kernel handles the output channels ``lo`` to ``hi``. Shapes: b branches with a weight, W and
products ``W S`` (b, C, K), mean (K,). The identity, if any, comes last among the norms.
"""

from typing import NamedTuple

import numpy as np

from .channel_fold import (
    Branches,
    Grads,
    State,
    branch_moments,
    fold_bias,
    inner,
    normalize,
    normalize_backward,
    weight_grad,
)
from .jit import jit

__all__ = ['InputTerms', 'backward', 'forward']


@jit
def forward(branches: Branches, mean: np.ndarray, cov: np.ndarray, state: State, lo: int,
            hi: int) -> None:
    """Fill the state, which already has its mean and products."""
    own = branches.weight.shape[0]
    for c in range(lo, hi):
        kernel, bias = state.kernel[c], 0.
        kernel[:] = 0
        for b in range(len(branches.eps)):
            if b == own:
                scale, offset = normalize(b, c, mean[c], max(cov[c, c], 0.), branches, state)
                kernel[c] += scale
            else:
                w = branches.weight[b, c]
                own_mean, own_var = branch_moments(w, state.products[b, c], mean)
                scale, offset = normalize(b, c, own_mean, own_var, branches, state)
                factor = w.dtype.type(scale)
                for t in range(w.size):
                    kernel[t] += factor * w[t]
            bias += offset
        fold_bias(c, bias, mean, state)


class InputTerms(NamedTuple):
    """Terms of the input's gradient ``dp_o = kernel g_o + Q (p_o - mean) + l``.

    ``Q = sum_b scaled_b^T W_b + diag(diagonal[0])`` with ``scaled`` (b, C, K), and ``l = sum_b
    W_b^T linear_b + diagonal[1]`` with ``linear`` (b, C). ``diagonal`` (2, C), in float64, is for
    the identity.
    """

    scaled: np.ndarray
    linear: np.ndarray
    diagonal: np.ndarray


@jit
def backward(branches: Branches, mean: np.ndarray, state: State, grad_kernel: np.ndarray,
             count: int, grads: Grads, terms: InputTerms, lo: int, hi: int) -> None:
    """Gradients of the branches and of the input.

    Args:
        branches: The same as in the forward.
        mean: The same as in the forward.
        state: The state from the forward.
        grad_kernel: ``sum_o g_o (p_o - mean)``, (C, K).
        count: Number of positions.
        grads: Result, except for ``beta``, which is an input.
        terms: Result; the diagonal is only written for an identity.
        lo: First channel.
        hi: Channel after the last.
    """
    own = branches.weight.shape[0]
    scaled, linear, diagonal = terms.scaled, terms.linear, terms.diagonal
    for c in range(lo, hi):
        grad, bias = grad_kernel[c], grads.beta[c]
        for b in range(len(branches.eps)):
            if b == own:
                _, diagonal[0, c], diagonal[1, c], _ = normalize_backward(
                    b, c, grad[c], bias, count, branches, state, grads.gamma)
                continue
            w, to = branches.weight[b, c], scaled[b, c]
            twice, square, linear[b, c], along = normalize_backward(
                b, c, inner(b, c, branches.weight, grad), bias, count, branches, state,
                grads.gamma)
            weight_grad(b, c, grad, mean, twice, along, state, grads)
            factor = w.dtype.type(square)
            for t in range(w.size):
                to[t] = factor * w[t]
