"""One channel of some images, laid out so that a 3x3 convolution reads nine shifted flat arrays.

The planes are padded and split by stride into phases. In each phase, the planes of all images
follow each other; a plane has ``period`` values, a row ``width`` values. Output
o = image * period + row * width + column reads tap t at ``q[at[t] + o]``. Some of these positions o
are not outputs; a mask is zero there. q has ``lead`` more values before and after, as if the
padding continued.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...maths.moments import ConvShape
from .jit import jit, mask_grad

__all__ = ['Layout', 'Maps', 'gather', 'layout', 'read_masked', 'scatter', 'write_rows']

# Planes that are processed together should fit into the cache several times.
GROUP_ELEMENTS = 1 << 15


class Layout(NamedTuple):
    """The positions of a 3x3 convolution's inputs.

    ``at`` (9,) holds the positions of the taps. ``mask`` (n,) is one at outputs and zero elsewhere.
    ``rows`` and ``columns`` are those of an output. ``images`` is the number of images handled
    together, ``size`` the size of q. ``by_lags`` is whether stride and dilation are 1.
    """

    at: np.ndarray
    mask: np.ndarray
    rows: int
    columns: int
    images: int
    period: int
    width: int
    stride: int
    pad: int
    lead: int
    size: int
    by_lags: bool


class Maps(NamedTuple):
    """The maps of a backward pass: x (B, C, H, W); grad and out (B, C, H_out, W_out), or flat.

    With ``relu``, grad is zero where out, the ReLU's output, is zero; otherwise out is not read.
    """

    x: np.ndarray
    grad: np.ndarray
    out: np.ndarray
    relu: bool


@lru_cache(maxsize=64)
def layout(shape: ConvShape, batch: int, height: int, width: int, dtype: str) -> Layout:
    """The layout of planes of ``height`` x ``width`` for a 3x3 convolution with stride 1 or 2."""
    stride, pad, dilation = shape.stride, shape.padding, shape.dilation
    rows, columns = (-(-(size + 2 * pad) // stride) for size in (height, width))
    period = rows * columns
    # Twice the kernel's reach, for the 5x5 kernel of :mod:`.lags`, or the reach of its dilation.
    lead = (dilation + 2) * columns + dilation + 3
    images = max(1, min(batch, GROUP_ELEMENTS // period))
    taps = [dilation * t for t in range(3)]
    at = [lead + (y % stride * stride + x % stride) * images * period + y // stride * columns
          + x // stride for y in taps for x in taps]
    out = [shape.out_size(size) for size in (height, width)]
    mask = np.zeros((images, rows, columns), dtype)
    mask[:, :out[0], :out[1]] = 1
    size = stride**2 * images * period + 2 * lead
    by_lags = stride == dilation == 1 and min(height, width) > 1
    return Layout(at=np.array(at), mask=mask.ravel(), rows=out[0], columns=out[1], images=images,
                  period=period, width=columns, stride=stride, pad=pad, lead=lead, size=size,
                  by_lags=by_lags)


@jit
def gather(q: np.ndarray, x: np.ndarray, c: int, first: int, images: int, lay: Layout,
           shift: float) -> None:
    """Write channel c of ``x - shift`` to q; the caller fills the padding."""
    for image in range(images):
        plane = x[first + image, c]
        for row in range(plane.shape[0]):
            source = plane[row]
            if lay.stride == 1:
                start = _place(row, 0, image, lay)
                target = q[start:start + source.size]
                for i in range(target.size):
                    target[i] = source[i] - shift
            else:
                even, odd = _place(row, 0, image, lay), _place(row, 1, image, lay)
                half = source.size // 2
                left, right = q[even:even + half + 1], q[odd:odd + half]
                for i in range(half):
                    left[i] = source[2 * i] - shift
                    right[i] = source[2 * i + 1] - shift
                if source.size % 2:
                    left[half] = source[2 * half] - shift


@jit
def _place(row: int, column: int, image: int, lay: Layout) -> int:
    """The position of an input in q."""
    row, column = row + lay.pad, column + lay.pad
    if lay.stride == 1:
        return lay.lead + image * lay.period + row * lay.width + column
    phase = row % 2 * 2 + column % 2
    return (lay.lead + (phase * lay.images + image) * lay.period + row // 2 * lay.width
            + column // 2)


@jit
def scatter(x: np.ndarray, q: np.ndarray, c: int, first: int, images: int, lay: Layout) -> None:
    """Undo :func:`gather` for stride 2: write channel c of x."""
    for image in range(images):
        plane = x[first + image, c]
        for row in range(plane.shape[0]):
            target = plane[row]
            even, odd = _place(row, 0, image, lay), _place(row, 1, image, lay)
            half = target.size // 2
            left, right = q[even:even + half + 1], q[odd:odd + half]
            for i in range(half):
                target[2 * i] = left[i]
                target[2 * i + 1] = right[i]
            if target.size % 2:
                target[2 * half] = left[half]


@jit
def write_rows(y: np.ndarray, flat: np.ndarray, c: int, first: int, images: int, relu: bool,
               lay: Layout) -> None:
    """Write the outputs among the positions o to channel c of y, with a ReLU if ``relu``."""
    for image in range(images):
        plane, start = y[first + image, c], image * lay.period
        for row in range(plane.shape[0]):
            target, source = plane[row], flat[start:start + plane.shape[1]]
            if relu:
                for i in range(target.size):
                    target[i] = 0 if source[i] <= 0 else source[i]
            else:
                for i in range(target.size):
                    target[i] = source[i]
            start += lay.width


@jit
def read_masked(flat: np.ndarray, maps: Maps, c: int, first: int, images: int,
                lay: Layout) -> None:
    """Write the gradient before the ReLU to flat along o; the rest of flat is kept."""
    for image in range(images):
        plane, cut = maps.grad[first + image, c], maps.out[first + image, c]
        start = image * lay.period
        for row in range(plane.shape[0]):
            mask_grad(flat[start:start + plane.shape[1]], plane[row], cut[row], maps.relu)
            start += lay.width
