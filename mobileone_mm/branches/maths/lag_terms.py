"""What the moments of 3x3 patches are made of, and their gradient (stride 1, padding 1).

With x zero outside, ``sum_o p_t(o) p_u(o)`` is the plane's autocorrelation at lag ``u - t``, less
the outputs that would lie outside: those before the first row read it by tap row +1, those after
the last by tap row -1; columns likewise; what both take off at a corner comes back. So the second
moments are a matrix of zeros and signs times numbers in these :data:`PLACES`::

    25  autocorrelations at lags of -2 ... 2 rows and -2 ... 2 columns
    5   those along the first row, at lags -2 ... 2; likewise the last row, the first and the last
        column
    4   squares of the corners: first row's two, last row's two

and the taps' sums another matrix times nine numbers, the sums of all, of the four borders and of
the corners. Transposed, the matrices make of ``dp_o = quadratic p_o + linear`` the kernels that
plane and borders are convolved with, and what is added to them.

Taps count from 0 to 8 by rows, pairs (t, u) from 0 to 80. A term is (pair or tap, place, sign).
"""

from typing import List, Tuple

__all__ = ['PAIR_TERMS', 'PLACES', 'TAP_TERMS']

PLACES = (25, 5, 5, 5, 5, 4)
TAPS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
BORDERS = [(axis, tap) for axis in (0, 1) for tap in (1, -1)]  # and the tap that reads it
CORNERS = [(row, column) for row in (1, -1) for column in (1, -1)]
Term = Tuple[int, int, int]


def _tap_terms() -> List[Term]:
    terms = []
    for i, t in enumerate(TAPS):
        terms.append((i, 0, 1))
        terms += [(i, 1 + side, -1) for side, (axis, tap) in enumerate(BORDERS) if t[axis] == tap]
        terms += [(i, 5 + CORNERS.index(t), 1)] if t in CORNERS else []
    return terms


def _pair_terms() -> List[Term]:
    terms = []
    for i, t in enumerate(TAPS):
        for j, u in enumerate(TAPS):
            lag = u[0] - t[0], u[1] - t[1]
            terms.append((9 * i + j, 5 * (lag[0] + 2) + lag[1] + 2, 1))
            terms += [(9 * i + j, 25 + 5 * side + lag[1 - axis] + 2, -1)
                      for side, (axis, tap) in enumerate(BORDERS) if t[axis] == u[axis] == tap]
        terms += [(10 * i, 45 + CORNERS.index(t), 1)] if t in CORNERS else []
    return terms


TAP_TERMS, PAIR_TERMS = _tap_terms(), _pair_terms()
