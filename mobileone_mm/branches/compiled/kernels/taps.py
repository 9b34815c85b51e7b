"""Blocks with a single convolution y = W x, computed by torch: ``kernel_y y + kernel_x x + bias``.

Each channel is read from memory once. Its sums, the fold of its branches and the results are
computed while its planes are in the cache. Each kernel handles the channels ``lo`` to ``hi``.

Shapes: maps y, x, grad, out (B, C, H * W).
"""

import numpy as np

from .channel_fold import Branches, Grads, State, fold, fold_backward
from .jit import exact_total, jit, mask_grad, total
from .planes import Maps

__all__ = ['backward', 'channel_moments', 'forward', 'masked_grad', 'moments']


@jit
def moments(x: np.ndarray, c: int) -> tuple:
    """Mean and variance of channel c of x (B, C, n), in float64."""
    # Close enough to the mean to keep all digits.
    shift = x.dtype.type(total(x[0, c]) / x.shape[2])
    sums = squares = 0.
    for b in range(x.shape[0]):
        plane = x[b, c]
        s = q = x.dtype.type(0)
        for i in range(plane.size):
            d = plane[i] - shift
            s += d
            q += d * d
        sums += s
        squares += q
    n = x.shape[0] * x.shape[2]
    return shift + sums / n, max(squares / n - (sums / n)**2, 0.)


@jit
def channel_moments(x: np.ndarray, mean: np.ndarray, var: np.ndarray, lo: int, hi: int) -> None:
    """:func:`moments` of all channels."""
    for c in range(lo, hi):
        mean[c], var[c] = moments(x, c)


@jit
def forward(y: np.ndarray, x: np.ndarray, branches: Branches, state: State, relu: bool,
            out: np.ndarray, lo: int, hi: int) -> None:
    """Fill state and out; branches that read y and x have weights (1, 0) and (0, u)."""
    mean, cov = np.zeros(2), np.zeros((2, 2))
    for c in range(lo, hi):
        mean[0], cov[0, 0] = moments(y, c)
        if len(branches.eps) > 1:  # otherwise no branch reads x
            mean[1], cov[1, 1] = moments(x, c)
        fold(c, branches, mean, cov, state)
        sy, sx = state.kernel[c, 0], state.kernel[c, 1]
        my, mx = x.dtype.type(mean[0]), x.dtype.type(mean[1])
        # Subtract the means first, so that large ones do not cancel in rounded products.
        offset = x.dtype.type(state.bias[c] + sy * my + sx * mx)
        for b in range(y.shape[0]):
            u, v, to = y[b, c], x[b, c], out[b, c]
            if relu:
                for i in range(to.size):
                    s = sy * (u[i] - my) + sx * (v[i] - mx) + offset
                    to[i] = 0 if s <= 0 else s
            else:
                for i in range(to.size):
                    to[i] = sy * (u[i] - my) + sx * (v[i] - mx) + offset


@jit
def masked_grad(grad: np.ndarray, out: np.ndarray, relu: bool, g: np.ndarray, totals: np.ndarray,
                lo: int, hi: int) -> None:
    """:func:`mask_grad` for whole maps, and its sums (C,) in float64."""
    for c in range(lo, hi):
        for b in range(g.shape[0]):
            to = g[b, c]
            mask_grad(to, grad[b, c], out[b, c], relu)
            totals[c] += exact_total(to)


@jit
def backward(y: np.ndarray, maps: Maps, branches: Branches, state: State, grads: Grads,
             gy: np.ndarray, gx: np.ndarray, lo: int, hi: int) -> None:
    """Gradients of the branches, of y, and of x without the part through y."""
    x = maps.x
    of, count = x.dtype.type, x.shape[0] * x.shape[2]
    terms = np.empty((2, len(branches.eps)))
    dots, quadratic, linear = np.empty(2), np.empty(2), np.empty(2)
    for c in range(lo, hi):
        my, mx = of(state.mean[c, 0]), of(state.mean[c, 1])
        sums = dots[0] = dots[1] = 0.
        for b in range(x.shape[0]):
            g, u, v = gx[b, c], y[b, c], x[b, c]
            mask_grad(g, maps.grad[b, c], maps.out[b, c], maps.relu)
            s = du = dv = of(0)
            for i in range(g.size):
                s += g[i]
                du += g[i] * (u[i] - my)
                dv += g[i] * (v[i] - mx)
            sums += s
            dots[0] += du
            dots[1] += dv
        dots[0] -= (state.mean[c, 0] - my) * sums
        dots[1] -= (state.mean[c, 1] - mx) * sums
        fold_backward(c, branches, state, dots, sums, count, grads, terms)
        quadratic[:] = 0
        linear[:] = 0
        for b in range(len(branches.eps)):
            for t in range(2):
                w = branches.weight[b, c, t]
                quadratic[t] += w * w * terms[0, b]
                linear[t] += w * terms[1, b]
        sy, sx, qy, qx = state.kernel[c, 0], state.kernel[c, 1], of(quadratic[0]), of(quadratic[1])
        ly, lx = of(linear[0]), of(linear[1])
        for b in range(x.shape[0]):
            g, to, u, v = gx[b, c], gy[b, c], y[b, c], x[b, c]
            for i in range(g.size):
                to[i] = sy * g[i] + qy * (u[i] - my) + ly
                g[i] = sx * g[i] + qx * (v[i] - mx) + lx
