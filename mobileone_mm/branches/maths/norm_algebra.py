"""What all folds share: when a mean is small, and a norm's gradients from that of its scale.

Arithmetic only, so that the same lines serve tensors of all branches and, compiled, the numbers of
one channel. A branch is ``a (W p - mean) + beta`` with ``a = gamma inv``, ``inv = 1 / sqrt(var +
eps)``; ``shift`` is this batch's mean of ``W p`` less the mean in use.
"""

from typing import Tuple, TypeVar

from torch import Tensor

__all__ = ['MAX_OFFSET_SQUARED', 'is_small', 'mean_terms', 'moment_grads']

Value = TypeVar('Value', Tensor, float)

# Up to this square of mean over deviation, a float32 sum of squares loses less than a digit to it.
MAX_OFFSET_SQUARED = 4


def is_small(mean: Value, var: Value) -> Value:
    """Whether sums of squares keep their digits without centering."""
    return mean * mean <= MAX_OFFSET_SQUARED * var


def moment_grads(d_scale: Value, grad_bias: Value, scale: Value,
                 inv: Value) -> Tuple[Value, Value, Value]:
    """Gradients of gamma and, through a and the bias, of a branch's variance and mean.

    ``dgamma = da inv``, ``dvar = -a inv^2 da / 2``, ``dmean = -a grad_bias``.
    """
    d_gamma = d_scale * inv
    return d_gamma, d_gamma * scale * inv * -.5, -scale * grad_bias


def mean_terms(d_var: Value, d_mean: Value, scale: Value, grad_bias: Value, shift: Value,
               ratio: float) -> Tuple[Value, Value]:
    """What the mean of ``W p`` gets, and the factor of ``mu`` in the gradient of W.

    ``ratio``: of this process's positions to those of all. Without a shift these are ``dmean`` and,
    the mean being this batch's own, zero.
    """
    per_mean = d_mean + 2 * d_var * shift
    return per_mean, scale * grad_bias + ratio * per_mean
