"""Patch moments of a 3x3 depthwise convolution (stride 1, padding 1) from autocorrelations.

A channel's 9 x 9 patch moments contain few distinct numbers. For taps t and u,
``sum_o p_t(o) p_u(o)`` is the channel's autocorrelation at lag ``u - t``, minus terms at the border
(:mod:`.lag_terms`). Two calls of torch's depthwise weight gradient compute all lags, and a few rows
and columns give the border terms. Building the patches would move nine times as much data.

Shapes: x (B, C, H, W); for moments and gradients see :mod:`.moments`, with K = 9.
"""

from functools import lru_cache
from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .lag_terms import PAIR_TERMS, PLACES, TAP_TERMS, Term
from .moments import (
    ConvShape,
    Moments,
    accumulation_dtype,
    channel_sum,
    channel_sum_squares,
    has_small_means,
)

__all__ = ['LAG_SHAPE', 'depthwise_lag_moments', 'depthwise_lag_input_grad']

LAG_SHAPE = ConvShape(kernel_size=3, stride=1, padding=1, dilation=1)


def _shifted_correlation(x: Tensor, step: int) -> Tensor:
    """``sum_o x[o + t] x[o + u]`` for t = (-1, -step) and all u: (C, 3, 3)."""
    shifted = torch.zeros_like(x)
    if step > 0:
        shifted[:, :, 1:, 1:] = x[:, :, :-1, :-1]
    else:
        shifted[:, :, 1:, :-1] = x[:, :, :-1, 1:]
    weight = x.new_empty(x.shape[1], 1, 3, 3)
    return torch.ops.aten.convolution_backward(
        shifted, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], x.shape[1],
        [False, True, False])[1].squeeze(1)


def _line_lags(lines: Tensor) -> Tensor:
    """``sum_i x[i] x[i + lag]`` along (B, C, L, N) lines for lags 0 ... 2: (C, L, 3)."""
    shifted = F.pad(lines, (0, 2)).unfold(3, lines.shape[3], 1)
    return (shifted * lines.unsqueeze(3)).sum((0, 4))


# Sizes of the parts in _second_moments: lags to the lower right and to the lower left, lags along
# the first and last row and along the last column, squares of the corners.
PARTS = (9, 9, 6, 3, 4)


def _second_moments(x: Tensor) -> Tensor:
    """``sum_o p_t(o) p_u(o)``: (C, 9, 9)."""
    rows = x[:, :, ::x.shape[2] - 1]
    corners = rows[..., ::x.shape[3] - 1].square().sum(0)
    parts = torch.cat([part.flatten(1) for part in (
        _shifted_correlation(x, 1), _shifted_correlation(x, -1), _line_lags(rows),
        _line_lags(x[:, :, None, :, -1]), corners)], 1)
    return (parts @ _assembly(parts.dtype, parts.device)).view(-1, 9, 9)


@lru_cache(maxsize=8)
def _assembly(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix of zeros and signs that combines the parts into second moments."""
    parts = torch.eye(sum(PARTS), dtype=dtype, device=device).split(PARTS, 1)
    # Each of these holds columns of the matrix. Both ``right`` and ``left`` lack the last row;
    # ``right`` also lacks the last column, and ``left`` the first.
    right, left, rows, last, corners = (
        part.view(-1, *shape) for part, shape in
        zip(parts, ((3, 3), (3, 3), (2, 3), (3, ), (2, 2))))
    center = right[:, :, :1] + last.unsqueeze(2)
    lags = torch.cat([left[:, :, :2], center, right[:, :, 1:]], 2)
    lags[:, 0] += torch.cat([rows[:, 1].flip(1), rows[:, 1, 1:]], 1)
    lags[:, 0, 2] -= corners[:, 1, 1]
    first = lags[:, :, 2] - left[:, :, 2]
    first[:, 0] += corners[:, 1, 0] - rows[:, 1, 0]
    below = lags[:, 1:].flatten(1)
    borders = [torch.cat([line.flip(1)[:, :2], line], 1)
               for line in (rows[:, 0], rows[:, 1], first, last)]
    places = torch.cat([below.flip(1), lags[:, 0], below, *borders, corners.flatten(1)], 1)
    return places @ _matrix(PAIR_TERMS, 81, sum(PLACES), dtype, device).t()


def _matrix(terms: List[Term], rows: int, columns: int, dtype: torch.dtype,
            device: torch.device) -> Tensor:
    """A (rows, columns) matrix with the signs of all terms, and zeros elsewhere."""
    matrix = torch.zeros(rows, columns, dtype=dtype)
    for row, column, sign in terms:
        matrix[row, column] = sign
    return matrix.to(device)


@lru_cache(maxsize=256)
def _reach(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(9, size): for pairs (t, u), whether ``i - u`` is an output whose tap t is also inside."""
    i = torch.arange(size, device=device)
    rows = [(i - u >= 0) & (i - u < size) & (i - u + t >= 0) & (i - u + t < size)
            for t in (-1, 0, 1) for u in (-1, 0, 1)]
    return torch.stack(rows).to(dtype)


@lru_cache(maxsize=256)
def _indicator_moments(height: int, width: int, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Mean (9,) and covariance (9, 9) over the outputs of the taps' indicators of being inside."""
    inside = torch.outer(*(_reach(size, torch.float64, device).sum(1) for size in (height, width)))
    inside = _pair_axes(inside / (height * width))
    mean = inside[4]
    return mean, inside - torch.outer(mean, mean)


def _pair_axes(by_axis: Tensor) -> Tensor:
    """(..., (t_y, u_y), (t_x, u_x)) -> (..., (t_y, t_x), (u_y, u_x))."""
    lead = by_axis.shape[:-2]
    return by_axis.view(*lead, 3, 3, 3, 3).transpose(-3, -2).reshape(*lead, 9, 9)


def depthwise_lag_moments(x: Tensor) -> Moments:
    """Moments of each channel's 3x3 patches, including zero padding.

    Let ``x = m + d``, where m is the channel's mean (or 0 if the mean is small), and let ``i_t``
    indicate that tap t is inside. Then::

        Cov[p] = Cov[d] + m (Cov[i, d] + Cov[d, i]) + m^2 Cov[i]

    A large mean thus cancels in exact counts, not in rounded sums.

    Returns:
        mean (C, 9), cov (C, 9, 9).
    """
    dtype = accumulation_dtype(x.dtype)
    batch, channels, height, width = x.shape
    count = batch * height * width
    x = x.to(dtype)
    sums = channel_sum(x)
    if has_small_means(sums, channel_sum_squares(x), count):
        m, d = torch.zeros_like(sums), x
    else:
        m = sums / count
        d = x - m.view(1, -1, 1, 1)
    second = _second_moments(d).div_(count)

    image = d.sum(0)
    reach_y, reach_x = (_reach(size, dtype, x.device) for size in (height, width))
    with_indicator = _pair_axes(torch.matmul(reach_y, image @ reach_x.t())).div_(count)
    mean_i, cov_i = _indicator_moments(height, width, x.device)
    mean_d = with_indicator[:, 4]

    cov_d = second - mean_d.unsqueeze(2) * mean_d.unsqueeze(1)
    cov_id = with_indicator - mean_i.to(dtype).unsqueeze(1) * mean_d.unsqueeze(1)
    m3 = m.view(-1, 1, 1)
    cov = cov_d + m3 * (cov_id + cov_id.transpose(1, 2)) + m3.square() * cov_i.to(dtype)
    mean = m.double().unsqueeze(1) * mean_i + mean_d.double()
    return Moments(mean, cov, count)


def depthwise_lag_input_grad(x: Tensor, quadratic: Tensor, linear: Tensor) -> Tensor:
    """The input's gradient from ``dp_o = quadratic p_o + linear``.

    Away from the border this is a 5x5 convolution, whose taps are the sums of ``quadratic`` over
    equal lags. Along each side, a correction subtracts the terms of outputs outside the map, which
    reach the border through tap -1 or 1. The corners add back the terms subtracted twice.

    Args:
        x: (B, C, H, W), in the dtype of ``quadratic``; H and W at least 2.
        quadratic: (C, 9, 9).
        linear: (C, 9).

    Returns:
        (B, C, H, W).
    """
    channels = x.shape[1]
    sums, ones = _border_sums(x.dtype, x.device)
    inner, top, bottom, first, last, corners = (quadratic.flatten(1) @ sums).split(PLACES, 1)
    offsets = linear @ ones
    dx = F.conv2d(x, inner.reshape(-1, 1, 5, 5), offsets[:, 0], padding=2, groups=channels)
    for axis, kernels, offset in ((2, (top, bottom), offsets[:, 1:3]),
                                  (3, (first, last), offsets[:, 3:5])):
        lines = torch.cat([x.select(axis, 0), x.select(axis, -1)], 1)
        outside = F.conv1d(lines, torch.cat(kernels).unsqueeze(1), offset.t().flatten(),
                           padding=2, groups=2 * channels)
        dx.select(axis, 0).add_(outside[:, :channels])
        dx.select(axis, -1).add_(outside[:, channels:])
    step = (slice(None, None, x.shape[2] - 1), slice(None, None, x.shape[3] - 1))
    at = (slice(None), slice(None), *step)
    twice = dx[at]
    twice.addcmul_(x[at], corners.view(-1, 2, 2)).add_(offsets[:, 5:].view(-1, 2, 2))
    return dx


@lru_cache(maxsize=8)
def _border_sums(dtype: torch.dtype, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Signs of tap pairs in each kernel (81, 49), and of taps in each offset (9, 9)."""
    return (_matrix(PAIR_TERMS, 81, sum(PLACES), dtype, device),
            _matrix(TAP_TERMS, 9, 9, dtype, device))
