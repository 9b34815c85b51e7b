"""The terms of 3x3 patch moments and of their gradient (stride 1, padding 1).

With x zero outside, ``sum_o p_t(o) p_u(o)`` is the plane's autocorrelation at lag ``u - t``, minus
the terms of outputs outside the map. Outputs before the first row read it through tap row +1, those
after the last row through tap row -1; the same holds for columns. Terms subtracted twice at a
corner are added back. So the second moments are a matrix of zeros and signs times these numbers, in
groups of :data:`PLACES`::

    25  autocorrelations at lags of -2 ... 2 rows and -2 ... 2 columns
    5   autocorrelations along the first row at lags -2 ... 2, then 5 each for the last row, the
        first column and the last column
    4   squares of the corners: two in the first row, two in the last row

The sums of the taps are another matrix times nine numbers: the sums of the plane, of the four
borders and of the four corners. The transposed matrices turn ``dp_o = quadratic p_o + linear`` into
kernels, which are convolved with the plane and its borders, and into offsets.

Taps are numbered 0 to 8 by rows, pairs (t, u) 0 to 80. A term is (pair or tap, place, sign).
"""

from typing import List, Tuple

__all__ = ['PAIR_TERMS', 'PLACES', 'TAP_TERMS']

PLACES = (25, 5, 5, 5, 5, 4)
TAPS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
BORDERS = [(axis, tap) for axis in (0, 1) for tap in (1, -1)]  # with the tap that reads it
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
