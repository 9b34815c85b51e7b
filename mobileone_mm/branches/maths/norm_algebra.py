"""What all folds share: when a mean is small, a norm's scale, and the gradients from it.

Arithmetic only, so that the same lines serve tensors of all branches and, compiled, the numbers of
one channel. A branch is ``a (W p - mean) + beta`` with ``a = gamma inv``, ``inv = 1 / sqrt(var +
eps)``; ``shift`` is this batch's mean of ``W p`` less the mean in use.
"""

from typing import Tuple, TypeVar, Union

from torch import Tensor

__all__ = ['MAX_OFFSET_SQUARED', 'is_small', 'mean_terms', 'moment_grads', 'norm_scale',
           'variance_terms']

Value = TypeVar('Value', Tensor, float)

# Up to this square of mean over deviation, a float32 sum of squares loses less than a digit.
MAX_OFFSET_SQUARED = 4


def is_small(mean: Value, var: Value) -> Value:
    """Whether sums of squares keep their digits without centering."""
    return mean * mean <= MAX_OFFSET_SQUARED * var


def norm_scale(gamma: Value, var: Value, eps: Union[Value, float]) -> Tuple[Value, Value]:
    """``a`` and ``inv``."""
    inv = (var + eps)**-.5
    return gamma * inv, inv


def moment_grads(d_scale: Value, grad_bias: Value, scale: Value,
                 inv: Value) -> Tuple[Value, Value, Value]:
    """Gradients of gamma and, through a and the bias, of a branch's variance and mean.

    ``dgamma = da inv``, ``dvar = -a inv^2 da / 2``, ``dmean = -a grad_bias``.
    """
    d_gamma = d_scale * inv
    return d_gamma, d_gamma * scale * inv * -.5, -scale * grad_bias


def variance_terms(d_var: Value, count: float, total: float) -> Tuple[Value, Value]:
    """The factors of ``W S`` in the gradient of W, and of ``W (p - mu)`` in that of ``W p``.

    ``count`` and ``total``: positions of this process and of all.
    """
    return d_var * (2 * (count / total)), d_var * (2 / total)


def mean_terms(d_var: Value, d_mean: Value, scale: Value, grad_bias: Value, shift: Value,
               ratio: float) -> Tuple[Value, Value]:
    """The gradient of the mean of ``W p``, and the factor of ``mu`` in the gradient of W.

    ``ratio`` is that of this process's positions to those of all. Without a shift, the mean is this
    batch's own, and the results are ``dmean`` and zero.
    """
    per_mean = d_mean + 2 * d_var * shift
    return per_mean, scale * grad_bias + ratio * per_mean
