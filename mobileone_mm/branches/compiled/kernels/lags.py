"""Autocorrelations of planes laid out for a 3x3 convolution with stride and dilation 1.

The terms in :mod:`mobileone_mm.branches.maths.lag_terms` turn autocorrelations of the plane, its
borders and its corners into moments.

For positions o and q, see :mod:`.planes`.
"""

from typing import List, Tuple

import numpy as np

from ...maths import lag_terms
from .jit import add_row5, dots3, inlined, jit, total
from .planes import Layout

__all__ = ['PLACES', 'add_lag_grad', 'add_lags', 'lag_kernels', 'lag_moments']

PLACES = sum(lag_terms.PLACES)


def _split(terms: List[lag_terms.Term]) -> Tuple[np.ndarray, np.ndarray]:
    """The terms' indices, unsigned so that numba does not check for negative ones; their signs."""
    table = np.array(terms)
    return table[:, :2].astype(np.uint64), table[:, 2].astype(np.float64)


PAIRS, PAIR_SIGNS = _split(lag_terms.PAIR_TERMS)
TAPS, TAP_SIGNS = _split(lag_terms.TAP_TERMS)


@inlined
def _assemble(terms: np.ndarray, signs: np.ndarray, parts: np.ndarray, out: np.ndarray) -> None:
    """Write the product of the terms' matrix and the parts to ``out``."""
    out[:] = 0
    for i in range(len(signs)):
        out[terms[i, 0]] += signs[i] * parts[terms[i, 1]]


@inlined
def _assemble_transposed(terms: np.ndarray, signs: np.ndarray, parts: np.ndarray,
                         out: np.ndarray) -> None:
    out[:] = 0
    for i in range(len(signs)):
        out[terms[i, 1]] += signs[i] * parts[terms[i, 0]]


@jit
def _border_parts(x: np.ndarray, c: int, parts: np.ndarray, sums: np.ndarray) -> None:
    """Autocorrelations (24,) and sums (8,) of the borders and corners of channel c."""
    batch, _, height, width = x.shape
    # The borders of all images one after another, with zeros in between.
    both = np.zeros((4, batch * (max(height, width) + 2) + 2), x.dtype)
    for b in range(batch):
        plane = x[b, c]
        for side in range(2):
            at = b * (width + 2)
            both[side, at:at + width] = plane[side * (height - 1)]
            at, column = b * (height + 2), side * (width - 1)
            line = both[2 + side, at:at + height]
            for i in range(height):
                line[i] = plane[i, column]
            for other in range(2):
                corner = plane[side * (height - 1), other * (width - 1)]
                sums[4 + 2 * side + other] += corner
                parts[20 + 2 * side + other] += corner * corner
    for side in range(4):
        line, center = both[side], 5 * side + 2
        sums[side] = total(line)
        found = dots3(line[:-2], line[:-2], line[1:-1], line[2:])
        for lag in range(3):
            parts[center + lag] = parts[center - lag] = found[lag]


@jit
def add_lags(q: np.ndarray, n: int, lay: Layout, lags: np.ndarray) -> None:
    """Add ``sum_i q[i] q[i + lag]`` for lags of 0 to 2 rows and -2 to 2 columns to lags (3, 6).

    Its columns are lags -2, -1, 0, 0, 1, 2; row 0 omits the first three.
    """
    a = q[lay.lead:lay.lead + n]
    for y in range(3):
        for column in range(0 if y > 0 else 3, 6, 3):
            at = lay.lead + y * lay.width + column - 2 - column // 3
            found = dots3(a, q[at:at + n], q[at + 1:at + 1 + n], q[at + 2:at + 2 + n])
            for i in range(3):
                lags[y, column + i] += found[i]


@jit
def lag_moments(x: np.ndarray, c: int, lags: np.ndarray, total: float, count: int,
                mean: np.ndarray, cov: np.ndarray) -> None:
    """Mean (9,) and covariance (9, 9) of the patches of channel c.

    Args:
        x: Input (B, C, H, W).
        c: Index of the channel.
        lags: Its autocorrelations, from :func:`add_lags`.
        total: Its sum.
        count: Number of positions.
        mean: Result.
        cov: Result.
    """
    parts, sums, second = np.zeros(PLACES), np.zeros(9), np.empty(81)
    for y in range(3):
        for column in range(0 if y > 0 else 3, 6):
            place = 5 * (y + 2) + column - column // 3
            parts[place] = parts[24 - place] = lags[y, column]
    sums[0] = total
    _border_parts(x, c, parts[25:], sums[1:])
    _assemble(TAPS, TAP_SIGNS, sums, mean)
    _assemble(PAIRS, PAIR_SIGNS, parts, second)
    mean /= count
    for t in range(9):
        for u in range(9):
            cov[t, u] = second[9 * t + u] / count - mean[t] * mean[u]


@jit
def lag_kernels(quadratic: np.ndarray, linear: np.ndarray, kernels: np.ndarray,
                offsets: np.ndarray) -> None:
    """Compute kernels and offsets for :func:`add_lag_grad` from ``dp_o = quadratic p_o + linear``.

    ``kernels`` (49,) are for the whole plane, the borders and the corners, and so are ``offsets``
    (9,).
    """
    _assemble_transposed(PAIRS, PAIR_SIGNS, quadratic.ravel(), kernels)
    _assemble_transposed(TAPS, TAP_SIGNS, linear, offsets)


@jit
def _add25(out: np.ndarray, q: np.ndarray, width: int, w: np.ndarray) -> None:
    """``out_i += sum_st w_st q[i + s width + t]``, s, t = 0 ... 4, unrolled into a single loop."""
    n = out.size + 4
    a, b, c, d, e = q[:n], q[width:], q[2 * width:], q[3 * width:], q[4 * width:]
    a0, a1, a2, a3, a4 = w[0, 0], w[0, 1], w[0, 2], w[0, 3], w[0, 4]
    b0, b1, b2, b3, b4 = w[1, 0], w[1, 1], w[1, 2], w[1, 3], w[1, 4]
    c0, c1, c2, c3, c4 = w[2, 0], w[2, 1], w[2, 2], w[2, 3], w[2, 4]
    d0, d1, d2, d3, d4 = w[3, 0], w[3, 1], w[3, 2], w[3, 3], w[3, 4]
    e0, e1, e2, e3, e4 = w[4, 0], w[4, 1], w[4, 2], w[4, 3], w[4, 4]
    for i in range(out.size):
        s = a0 * a[i] + a1 * a[i + 1] + a2 * a[i + 2] + a3 * a[i + 3] + a4 * a[i + 4]
        s += b0 * b[i] + b1 * b[i + 1] + b2 * b[i + 2] + b3 * b[i + 3] + b4 * b[i + 4]
        s += c0 * c[i] + c1 * c[i + 1] + c2 * c[i + 2] + c3 * c[i + 3] + c4 * c[i + 4]
        s += d0 * d[i] + d1 * d[i + 1] + d2 * d[i + 2] + d3 * d[i + 3] + d4 * d[i + 4]
        s += e0 * e[i] + e1 * e[i + 1] + e2 * e[i + 2] + e3 * e[i + 3] + e4 * e[i + 4]
        out[i] += s


@jit
def _read_line(line: np.ndarray, q: np.ndarray, side: int, image: int, lay: Layout) -> None:
    """Read the first or last row (side 0, 1), or the first or last column (2, 3), of an image."""
    start = lay.lead + image * lay.period + lay.width + 1
    if side < 2:
        start += side * (lay.rows - 1) * lay.width
        line[:] = q[start:start + line.size]
    else:
        start += (side - 2) * (lay.columns - 1)
        for i in range(line.size):
            line[i] = q[start + i * lay.width]


@jit
def _add_line(flat: np.ndarray, line: np.ndarray, side: int, image: int, lay: Layout) -> None:
    """Add a line to flat along o, at the place that :func:`_read_line` reads."""
    start = image * lay.period
    if side < 2:
        start += side * (lay.rows - 1) * lay.width
        target = flat[start:start + line.size]
        for i in range(line.size):
            target[i] += line[i]
    else:
        start += (side - 2) * (lay.columns - 1)
        for i in range(line.size):
            flat[start + i * lay.width] += line[i]


@jit
def add_lag_grad(flat: np.ndarray, q: np.ndarray, images: int, kernels: np.ndarray,
                 offsets: np.ndarray, lines: np.ndarray, lay: Layout) -> None:
    """Add the inputs' gradient from ``dp_o = quadratic p_o + linear`` to flat along o.

    ``flat`` already includes ``offsets[0]``. ``lines`` (5, n), initially zero, is a buffer for the
    borders of all images.
    """
    rows = kernels[:45].reshape(9, 5)
    _add25(flat[:images * lay.period], q[lay.lead - lay.width - 1:], lay.width, rows)
    for side in range(4):
        length = lay.columns if side < 2 else lay.rows
        line, added = lines[side], lines[4, :images * (length + 4)]
        for image in range(images):  # four zeros apart
            start = image * (length + 4)
            _read_line(line[start + 2:start + 2 + length], q, side, image, lay)
        added[:] = offsets[1 + side]
        add_row5(added, line, rows[5 + side])
        for image in range(images):
            start = image * (length + 4)
            _add_line(flat, added[start:start + length], side, image, lay)
    for corner in range(4):
        at = corner // 2 * (lay.rows - 1) * lay.width + corner % 2 * (lay.columns - 1)
        square, add = kernels[45 + corner], offsets[5 + corner]
        for image in range(images):
            o = at + image * lay.period
            flat[o] += square * q[lay.lead + o + lay.width + 1] + add
