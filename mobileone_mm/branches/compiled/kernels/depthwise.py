"""Depthwise 3x3 convolutions of any stride and dilation, each channel read from memory once.

A channel's moments, the fold of its branches and the folded convolution follow each other while its
planes are in the cache. Each kernel handles the channels ``lo`` to ``hi``.

Shapes: x, gx (B, C, H, W); grad, out (B, C, H_out, W_out), contiguous. p_o are the nine inputs that
output o reads.
"""

from typing import NamedTuple

import numpy as np

from ...maths import norm_algebra
from .channel_fold import Branches, Grads, State, fold, fold_backward
from .jit import add_scaled, correlate9, dots3, exact_total, jit, total
from .lags import PLACES, add_lag_grad, add_lags, lag_kernels, lag_moments
from .planes import Layout, Maps, gather, read_masked, scatter, write_rows

__all__ = ['backward', 'forward']

_is_small = jit(norm_algebra.is_small)


class PatchTerms(NamedTuple):
    """``dp_o = quadratic (p_o - origin) + linear``: (9, 9) and (9,) of one channel."""

    quadratic: np.ndarray
    linear: np.ndarray


@jit
def _pad(q: np.ndarray, value: float) -> None:
    """Fill the padding with a value; q starts with padding."""
    if q[0] != value:
        q[:] = value


@jit
def _lag_moments(q: np.ndarray, x: np.ndarray, c: int, lay: Layout, mean: np.ndarray,
                 cov: np.ndarray) -> bool:
    """Mean (9,) and covariance (9, 9) of the patches by lags; returns False for a large mean."""
    lags = np.zeros((3, 6))
    sums = 0.
    _pad(q, x.dtype.type(0))
    for first in range(0, x.shape[0], lay.images):
        images = min(lay.images, x.shape[0] - first)
        gather(q, x, c, first, images, lay, 0)
        n = images * lay.period
        sums += total(q[lay.lead:lay.lead + n])
        add_lags(q, n, lay, lags)
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if not _is_small(sums / count, lags[0, 3] / count - (sums / count)**2):
        return False
    lag_moments(x, c, lags, sums, count, mean, cov)
    return True


@jit
def _patch_moments(q: np.ndarray, flat: np.ndarray, x: np.ndarray, c: int, lay: Layout,
                   mean: np.ndarray, cov: np.ndarray) -> float:
    """The same from the patches themselves, at any mean, stride and dilation.

    Returns the value that was subtracted from x in q.
    """
    # Close enough to the mean to keep all digits.
    shift = x.dtype.type(total(x[0, c].ravel()) / (x.shape[2] * x.shape[3]))
    mean[:] = 0
    cov[:] = 0
    _pad(q, -shift)
    for first in range(0, x.shape[0], lay.images):
        images = min(lay.images, x.shape[0] - first)
        gather(q, x, c, first, images, lay, shift)
        n = images * lay.period
        for t in range(9):
            p = q[lay.at[t]:lay.at[t] + n]
            for i in range(n):
                flat[i] = lay.mask[i] * p[i]
            mean[t] += total(flat[:n])
            for u in range(t, 9, 3):
                # Beyond the last tap, the last one is repeated and dropped.
                a0, a1, a2 = lay.at[u], lay.at[min(u + 1, 8)], lay.at[min(u + 2, 8)]
                found = dots3(flat[:n], q[a0:a0 + n], q[a1:a1 + n], q[a2:a2 + n])
                for i in range(min(3, 9 - u)):
                    cov[t, u + i] += found[i]
    count = x.shape[0] * lay.rows * lay.columns
    mean /= count
    for t in range(9):
        for u in range(t, 9):
            cov[t, u] = cov[u, t] = cov[t, u] / count - mean[t] * mean[u]
    mean += shift
    return shift


@jit
def forward(x: np.ndarray, branches: Branches, state: State, relu: bool, out: np.ndarray,
            lay: Layout, lo: int, hi: int) -> None:
    """Fill state and out."""
    q, flat = np.zeros(lay.size, x.dtype), np.empty(lay.mask.size, x.dtype)
    mean, cov = np.empty(9), np.empty((9, 9))
    for c in range(lo, hi):
        origin = x.dtype.type(0)
        if not (lay.by_lags and _lag_moments(q, x, c, lay, mean, cov)):
            origin = _patch_moments(q, flat, x, c, lay, mean, cov)
        fold(c, branches, mean, cov, state)
        state.origin[c] = origin
        offset = state.bias[c]
        for t in range(9):
            offset += origin * state.kernel[c, t]
        for first in range(0, x.shape[0], lay.images):
            images = min(lay.images, x.shape[0] - first)
            if images < x.shape[0]:  # q no longer holds these images
                gather(q, x, c, first, images, lay, origin)
            correlate9(flat[:images * lay.period], q, lay.at, state.kernel[c],
                       x.dtype.type(offset))
            write_rows(out, flat, c, first, images, relu, lay)


@jit
def backward(maps: Maps, branches: Branches, kernels: int, state: State, grads: Grads,
             gx: np.ndarray, lay: Layout, lo: int, hi: int) -> None:
    """Gradients of the branches and, unless gx is empty, of x.

    Only the first ``kernels`` branches read more than the center tap.
    """
    x = maps.x
    q = np.zeros(lay.size, x.dtype)
    # Zeros before and after allow reading the gradient at outputs that do not exist.
    around = np.zeros(lay.mask.size + 2 * lay.lead, x.dtype)
    g = around[lay.lead:lay.lead + lay.mask.size]
    dots = np.empty(9)
    lines = np.zeros((5, lay.images * (max(lay.rows, lay.columns) + 4) + 4), x.dtype)
    terms = np.empty((2, len(branches.eps)))
    patch = PatchTerms(np.empty((9, 9)), np.empty(9))
    for c in range(lo, hi):
        origin = state.origin[c]
        sums = _patch_dots(maps, c, origin, q, g, dots, lay)
        for t in range(9):
            dots[t] -= (state.mean[c, t] - origin) * sums
        count = x.shape[0] * lay.rows * lay.columns
        fold_backward(c, branches, state, dots, sums, count, grads, terms)
        if gx.size == 0:
            continue
        if kernels == 1:
            _branch_input_grad(maps, c, q, around, branches, state, terms, gx, lay)
            continue
        _of_patches(c, branches, kernels, state, terms, patch)
        if lay.by_lags and origin == 0:
            _lag_input_grad(maps, c, q, around, state, patch, lines, gx, lay)
        else:
            _patch_input_grad(maps, c, q, g, state, patch, gx, lay)


@jit
def _load(q: np.ndarray, g: np.ndarray, maps: Maps, c: int, first: int, images: int,
          origin: float, lay: Layout) -> None:
    """Inputs less ``origin`` into q, the gradient before the ReLU into g."""
    gather(q, maps.x, c, first, images, lay, origin)
    read_masked(g, maps, c, first, images, lay)


@jit
def _patch_dots(maps: Maps, c: int, origin: float, q: np.ndarray, g: np.ndarray,
                dots: np.ndarray, lay: Layout) -> float:
    """``sum_o g_o (p_o - origin)``, (9,), and the sum of g, which is returned."""
    batch = maps.x.shape[0]
    dots[:] = 0
    sums = 0.
    _pad(q, -origin)
    for first in range(0, batch, lay.images):
        images = min(lay.images, batch - first)
        _load(q, g, maps, c, first, images, origin, lay)
        n = images * lay.period
        sums += exact_total(g[:n])
        for t in range(0, 9, 3):
            a0, a1, a2 = lay.at[t], lay.at[t + 1], lay.at[t + 2]
            found = dots3(g[:n], q[a0:a0 + n], q[a1:a1 + n], q[a2:a2 + n])
            for i in range(3):
                dots[t + i] += found[i]
    return sums


@jit
def _of_patches(c: int, branches: Branches, kernels: int, state: State, terms: np.ndarray,
                patch: PatchTerms) -> None:
    """Turn the terms of the branches, see :func:`.channel_fold.fold_backward`, into the patch's."""
    quadratic_b, linear_b, quadratic, linear = terms[0], terms[1], patch.quadratic, patch.linear
    quadratic[:] = 0
    linear[:] = 0
    for b in range(kernels):
        w = branches.weight[b, c]
        for t in range(9):
            linear[t] += w[t] * linear_b[b]
            scaled = w[t] * quadratic_b[b]
            for u in range(9):
                quadratic[t, u] += scaled * w[u]
    for b in range(kernels, len(quadratic_b)):
        u = branches.weight[b, c, 4]
        linear[4] += u * linear_b[b]
        quadratic[4, 4] += u * u * quadratic_b[b]
    for t in range(9):
        for u in range(9):
            linear[t] -= quadratic[t, u] * (state.mean[c, u] - state.origin[c])


@jit
def _branch_input_grad(maps: Maps, c: int, q: np.ndarray, around: np.ndarray, branches: Branches,
                       state: State, terms: np.ndarray, gx: np.ndarray, lay: Layout) -> None:
    """The gradient of a single branch's output y, then of x from y's gradient and the center.

    ``terms`` (2, b): quadratic and linear, as by :func:`.channel_fold.fold_backward`.
    """
    x, quadratic, linear = maps.x, terms[0], terms[1]
    of, w, origin = x.dtype.type, branches.weight[0, c], state.origin[c]
    g = around[lay.lead:lay.lead + lay.mask.size]
    offset = 0.
    for t in range(9):  # y minus its mean
        offset -= w[t] * (state.mean[c, t] - origin)
    slope, slope_c = of(state.scale[0, c]), 0.
    square, square_c, add, add_c = of(quadratic[0]), 0., of(linear[0]), 0.
    for b in range(1, len(quadratic)):
        u = branches.weight[b, c, 4]
        slope_c += u * state.scale[b, c]
        square_c += u * u * quadratic[b]
        add_c += u * linear[b]
    add_c -= square_c * (state.mean[c, 4] - origin)
    slope_c, square_c, add_c = of(slope_c), of(square_c), of(add_c)
    flat, gq = np.empty(lay.mask.size, x.dtype), np.empty(lay.size, x.dtype)
    back = lay.lead + lay.at[4] - lay.at
    for first in range(0, x.shape[0], lay.images):
        images = min(lay.images, x.shape[0] - first)
        if images < x.shape[0]:  # q no longer holds these images
            _load(q, g, maps, c, first, images, origin, lay)
        n = images * lay.period
        y, gy, center = flat[:n], g[:n], q[lay.at[4]:lay.at[4] + n]
        correlate9(y, q, lay.at, w, of(offset))
        for i in range(n):
            own, m = gy[i], lay.mask[i]
            gy[i] = m * (slope * own + square * y[i] + add)
            y[i] = m * (slope_c * own + square_c * center[i] + add_c)
        if lay.stride == 1:
            correlate9(gq[:n], around, back, w, of(0))
            add_scaled(gq[:n], y, of(1))
            write_rows(gx, gq, c, first, images, False, lay)
            continue
        gq[:] = 0
        for t in range(9):
            add_scaled(gq[lay.at[t]:lay.at[t] + n], gy, w[t])
        add_scaled(gq[lay.at[4]:lay.at[4] + n], y, of(1))
        _write_inputs(gx, gq, c, first, images, lay)


@jit
def _lag_input_grad(maps: Maps, c: int, q: np.ndarray, around: np.ndarray, state: State,
                    patch: PatchTerms, lines: np.ndarray, gx: np.ndarray, lay: Layout) -> None:
    """``dp_o = kernel g_o + quadratic p_o + linear`` into channel c of gx, by lags.

    ``lines`` is a work buffer.
    """
    x, kernel = maps.x, state.kernel[c]
    flat = np.empty(lay.mask.size, x.dtype)
    kernels, offsets = np.empty(PLACES, x.dtype), np.empty(9, x.dtype)
    lag_kernels(patch.quadratic, patch.linear, kernels, offsets)
    back = lay.lead + lay.at[4] - lay.at
    for first in range(0, x.shape[0], lay.images):
        images = min(lay.images, x.shape[0] - first)
        if images < x.shape[0]:  # q no longer holds these images
            _load(q, around[lay.lead:], maps, c, first, images, x.dtype.type(0), lay)
        correlate9(flat[:images * lay.period], around, back, kernel, offsets[0])
        add_lag_grad(flat, q, images, kernels, offsets, lines, lay)
        write_rows(gx, flat, c, first, images, False, lay)


@jit
def _patch_input_grad(maps: Maps, c: int, q: np.ndarray, g: np.ndarray, state: State,
                      patch: PatchTerms, gx: np.ndarray, lay: Layout) -> None:
    """``dp_o = kernel g_o + quadratic (p_o - origin) + linear`` into channel c of gx."""
    x, kernel, origin = maps.x, state.kernel[c], state.origin[c]
    q_rows, offsets = patch.quadratic.astype(x.dtype), patch.linear.astype(x.dtype)
    gq, flat = np.empty(lay.size, x.dtype), np.empty(lay.mask.size, x.dtype)
    for first in range(0, x.shape[0], lay.images):
        images = min(lay.images, x.shape[0] - first)
        if images < x.shape[0]:  # q no longer holds these images
            _load(q, g, maps, c, first, images, origin, lay)
        n = images * lay.period
        gq[:] = 0
        for t in range(9):
            dp = flat[:n]
            correlate9(dp, q, lay.at, q_rows[t], offsets[t])
            add_scaled(dp, g[:n], kernel[t])
            to = gq[lay.at[t]:lay.at[t] + n]
            for i in range(n):
                to[i] += lay.mask[i] * dp[i]
        _write_inputs(gx, gq, c, first, images, lay)


@jit
def _write_inputs(gx: np.ndarray, gq: np.ndarray, c: int, first: int, images: int,
                  lay: Layout) -> None:
    """What was summed where the inputs are in q."""
    if lay.stride == 1:
        write_rows(gx, gq[lay.at[4]:], c, first, images, False, lay)
    else:
        scatter(gx, gq, c, first, images, lay)
