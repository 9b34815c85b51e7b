"""The fold of :mod:`.moment_fold` where every branch is a multiple of one of two maps (k = 1).

The convolution's branch reads its own output y with factor 1. The others read the block's input x
at the same positions: the 1x1 branch with its weight as factor, the identity with 1. With u_b the
factor and s(b) the map ("tap") of branch b::

    mean_b = u_b mean_s     var_b = u_b^2 var_s     a_b = gamma_b / sqrt(var_b + eps_b)
    out = sum_s slope_s (s - mean_s) + sum_b beta_b             slope_s = sum_{b reads s} a_b u_b

Few operators on stacked vectors matter here: on small maps their calls take most of the time.

Shapes: b branches in the order convolution, 1x1, identity; t = 1 or 2 taps, y first; C channels.
"""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .moment_fold import Reduce

__all__ = ['TapGrads', 'TapState', 'Taps', 'tap_backward', 'tap_moments']


class Taps(NamedTuple):
    """Which branches there are beside the convolution's.

    ``factor`` (C,) float64 of the 1x1 branch, ``None`` without one; ``identity``: whether there is
    such a branch.
    """

    factor: Optional[Tensor]
    identity: bool

    def statistics(self, mean: Tensor, var: Tensor) -> Tuple[Tensor, Tensor]:
        """Of the taps, (t, C) each, to those of the branches, (b, C)."""
        if self.factor is None:
            return mean, var
        both = torch.stack([mean, var])
        if self.identity:
            both = torch.cat([both, both[:, 1:]], 1)
        both[:, 1].mul_(self.factor)
        both[1, 1].mul_(self.factor)
        return both[0], both[1]

    def to_branches(self, per_tap: Tensor) -> Tensor:
        """(t, C) -> (b, C): ``u_b v_s(b)``."""
        if self.factor is None:
            return per_tap
        own, other = per_tap.unbind()
        rows = [own, other * self.factor]
        return torch.stack([*rows, other] if self.identity else rows)

    def to_taps(self, per_branch: Tensor, squared: bool = False) -> Tensor:
        """(b, C) -> (t, C): ``sum_{b reads s} u_b v_b``, or of ``u_b^2 v_b``."""
        if self.factor is None:
            return per_branch
        own, scaled, *identity = per_branch.unbind()
        scaled = scaled * self.factor
        if squared:
            scaled.mul_(self.factor)
        return torch.stack([own, scaled.add_(identity[0]) if identity else scaled])


def tap_moments(sums: Tensor, squares: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """Mean and variance, (t, C) in float64, from sums over the positions of nearly centred taps.

    ``var = sum s^2 / n - (sum s / n)^2``, never negative.
    """
    mean, second = torch.stack([sums, squares]).double().div_(count).unbind()
    return mean, torch.addcmul(second, mean, mean, value=-1).clamp_min_(0)


class TapState(NamedTuple):
    """What the backward of the fold needs of its forward, in float64.

    ``mean`` and ``var`` (t, C) of the taps; ``origin`` (t, C): their means in the form in which the
    backward reads them, y being kept centred; ``scale`` a and ``inv`` ``1 / sqrt(var + eps)``
    (b, C); ``batch`` (b, 1): 1 for norms with batch statistics, 0 for frozen ones, ``None`` without
    frozen ones; ``shift`` (b, C): this batch's mean of a branch less the mean in use, ``None``
    where all are zero.
    """

    mean: Tensor
    var: Tensor
    origin: Tensor
    scale: Tensor
    inv: Tensor
    batch: Optional[Tensor]
    shift: Optional[Tensor]


class TapGrads(NamedTuple):
    """``factor`` (C,) and ``gamma`` (b, C); a tap gets ``slope_s g + quadratic_s s + linear_s``."""

    factor: Optional[Tensor]
    gamma: Tensor
    quadratic: Tensor
    linear: Tensor


def tap_backward(taps: Taps, state: TapState, dots: Tensor, grad_bias: Tensor, count: int,
                 reduce: Optional[Reduce] = None) -> TapGrads:
    """As :func:`.moment_fold.fold_backward`, for taps.

    Args:
        taps: The branches.
        state: Of the forward.
        dots: ``sum_o g_o (s_o - mean_s)``, (t, C) in float64.
        grad_bias: ``sum_o g_o``, (C,) in float64.
        count: n of this process.
        reduce: Sums a tensor over all processes and returns it with their total count; ``None``
            without synchronised norms.
    """
    mean, var, origin, scale, inv, batch, shift = state
    d_scale = taps.to_branches(dots)
    if shift is not None:
        d_scale = d_scale + grad_bias * shift
    d_gamma = d_scale * inv
    d_var = (d_gamma * scale).mul_(inv).mul_(-.5)
    d_mean = scale * -grad_bias
    if batch is not None:
        d_var, d_mean = d_var * batch, d_mean * batch
    total = count
    if reduce is not None:
        (d_var, d_mean), total = reduce(torch.stack([d_var, d_mean]))
    per_mean = d_mean if shift is None else torch.addcmul(d_mean, d_var, shift, value=2)
    quadratic = taps.to_taps(d_var, squared=True).mul_(2 / total)
    linear = (taps.to_taps(per_mean) / total).addcmul_(quadratic, origin, value=-1)
    factor = None
    if taps.factor is not None:
        factor = (d_var[1] * (2 * count / total) * taps.factor).mul_(var[1])
        factor.addcmul_(scale[1], dots[1])
        if shift is not None:
            along_mean = scale[1] * grad_bias + count / total * per_mean[1]
            factor.addcmul_(along_mean, mean[1])
    return TapGrads(factor, d_gamma, quadratic, linear)
