"""Compile the kernels and their inner loops.

A loop reads at most six arrays. With more, LLVM does not check whether they overlap and does not
vectorize the loop. Sums may be reordered; infinities and NaN keep their meaning.
"""

from typing import Any, Callable

import numba
import numpy as np

__all__ = ['add_row5', 'add_scaled', 'correlate9', 'dots3', 'exact_total', 'inlined', 'jit',
           'mask_grad', 'total']


def jit(function: Callable, **more: Any) -> Any:
    """Compile at the first call for each dtype, cache on disk, and run without Python's lock."""
    options: Any = dict(more, nogil=True, error_model='numpy',
                        fastmath={'reassoc', 'contract', 'nsz'})
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder for the cache
        return numba.njit(**options)(function)


def inlined(function: Callable) -> Any:
    """:func:`jit`, inlined into callers: a call would cost as much as a loop over nine taps."""
    return jit(function, forceinline=True)


@jit
def total(a: np.ndarray) -> float:
    """``sum_i a_i``."""
    s = a.dtype.type(0)
    for i in range(a.size):
        s += a[i]
    return s


@jit
def exact_total(a: np.ndarray) -> float:
    """:func:`total`, accumulated in float64, for sums that must cancel."""
    s = 0.
    for i in range(a.size):
        s += a[i]
    return s


@jit
def dots3(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple:
    """``sum_i a_i b_i``, ``sum_i a_i c_i`` and ``sum_i a_i d_i``, reading a only once."""
    s0 = s1 = s2 = a.dtype.type(0)
    for i in range(a.size):
        s0 += a[i] * b[i]
        s1 += a[i] * c[i]
        s2 += a[i] * d[i]
    return s0, s1, s2


@jit
def mask_grad(to: np.ndarray, grad: np.ndarray, out: np.ndarray, relu: bool) -> None:
    """``to = grad``, but with ``relu`` zero where ``out`` is not positive; all (n,)."""
    if relu:
        for i in range(to.size):
            to[i] = 0 if out[i] <= 0 else grad[i]
    else:
        for i in range(to.size):
            to[i] = grad[i]


@jit
def add_scaled(out: np.ndarray, a: np.ndarray, scale: float) -> None:
    """``out_i += scale a_i``."""
    for i in range(out.size):
        out[i] += scale * a[i]


@jit
def correlate9(out: np.ndarray, q: np.ndarray, at: np.ndarray, w: np.ndarray,
               offset: float) -> None:
    """``out_i = offset + sum_t w_t q[at_t + i]``, t = 0 ... 8."""
    n = out.size
    _first5(out, q[at[0]:at[0] + n], q[at[1]:at[1] + n], q[at[2]:at[2] + n], q[at[3]:at[3] + n],
            q[at[4]:at[4] + n], w, offset)
    _last4(out, q[at[5]:at[5] + n], q[at[6]:at[6] + n], q[at[7]:at[7] + n], q[at[8]:at[8] + n], w)


@jit
def _first5(out: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray,
            e: np.ndarray, w: np.ndarray, offset: float) -> None:
    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
    for i in range(out.size):
        out[i] = offset + w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i] + w4 * e[i]


@jit
def _last4(out: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray,
           w: np.ndarray) -> None:
    w0, w1, w2, w3 = w[5], w[6], w[7], w[8]
    for i in range(out.size):
        out[i] += w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i]


@jit
def add_row5(out: np.ndarray, q: np.ndarray, w: np.ndarray) -> None:
    """``out_i += sum_t w_t q[i + t]``, t = 0 ... 4."""
    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
    a, b, c, d, e = q, q[1:], q[2:], q[3:], q[4:]
    for i in range(out.size):
        out[i] += w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i] + w4 * e[i]
