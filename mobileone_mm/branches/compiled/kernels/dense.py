"""The fold of pointwise convolutions (k >= 2), all that is not a product of matrices.

Each kernel handles the output channels ``lo`` to ``hi``. Shapes: b branches with a weight, W and
products ``W S`` (b, C, K), mean (K,); the identity, if there is one, comes last in the norms.
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
    """Fill the state; its mean and products are there."""
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
    """What the input gets: ``dp_o = kernel g_o + Q (p_o - mean) + l``.

    ``Q = sum_b scaled_b^T W_b + diag(diagonal[0])``, scaled (b, C, K); ``l = sum_b W_b^T linear_b +
    diagonal[1]``, linear (b, C); ``diagonal`` (2, C), of the identity, in float64.
    """

    scaled: np.ndarray
    linear: np.ndarray
    diagonal: np.ndarray


@jit
def backward(branches: Branches, mean: np.ndarray, state: State, grad_kernel: np.ndarray,
             count: int, grads: Grads, terms: InputTerms, lo: int, hi: int) -> None:
    """Gradients of the branches and of the input.

    Args:
        branches: As in the forward.
        mean: As in the forward.
        state: Of the forward.
        grad_kernel: ``sum_o g_o (p_o - mean)``, (C, K).
        count: Positions.
        grads: Written, but for ``beta``, which is read.
        terms: Written; the diagonal by the identity only.
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
