"""The algebra of the fold where mistakes are hard to see: rounding, small means."""

import pytest
import torch

from mobileone_mm.branches.maths import moments as mo
from mobileone_mm.branches.maths.moment_fold import fold_bias
from mobileone_mm.branches.maths.norm_algebra import (
    is_small,
    mean_terms,
    moment_grads,
    norm_scale,
    variance_terms,
)


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_a_rounded_kernels_errors_cancel_at_the_mean(dtype, per_channel):
    """At the mean, the output is the sum of beta, for any rounding and any mean."""
    exact = torch.randn(4, 9, dtype=torch.float64)
    mean = 1000 + torch.rand((4, 9) if per_channel else (9, ), dtype=torch.float64)
    beta, scale = torch.randn(2, 4), torch.rand(2, 4)
    rounded = exact.to(dtype)

    def at_mean(kernel):
        return kernel @ mean if mean.dim() == 1 else (kernel * mean).sum(1)

    expected = beta.double().sum(0)
    bias = fold_bias(rounded, mean, beta, scale, None)
    torch.testing.assert_close(at_mean(rounded.double()) + bias, expected, rtol=0, atol=1e-9)
    # The bias of the kernel before it was rounded would be off by far more.
    wrong = at_mean(rounded.double()) + fold_bias(exact, mean, beta, scale, None)
    assert (wrong - expected).abs().max() > 1e-6


def test_a_shift_moves_the_bias_by_its_scale():
    kernel, mean = torch.randn(4, 9), torch.randn(9).double()
    beta, scale = torch.randn(2, 4), torch.rand(2, 4)
    shift = torch.randn(2, 4, dtype=torch.float64)
    moved = fold_bias(kernel, mean, beta, scale, shift) - fold_bias(kernel, mean, beta, scale, None)
    torch.testing.assert_close(moved, (scale.double() * shift).sum(0), rtol=1e-12, atol=1e-12)


def test_norm_algebra_against_autograd():
    """Gradients of ``a (y - m) + shift a`` by gamma, and by mean and variance of y."""
    gamma, mean, var, grad, y, used = torch.rand(6, dtype=torch.float64).tolist()
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (gamma, mean, var)]
    inv = (leaves[2] + 1e-5).rsqrt()
    scale = leaves[0] * inv
    out = scale * (y - leaves[1])
    expected = torch.autograd.grad(grad * out, leaves)
    found = moment_grads(grad * (y - mean), grad, float(scale), float(inv))
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64),
                               torch.stack([expected[0], expected[2], expected[1]]))
    per_mean, along = mean_terms(2., 3., 5., 7., 11., .5)
    assert (per_mean, along) == (3 + 2 * 2 * 11, 5 * 7 + .5 * per_mean)
    assert variance_terms(3., 2, 8) == (1.5, .75)


def test_the_scale_of_a_norm_is_torchs():
    var, gamma = torch.rand(2, 3, 5, dtype=torch.float64)
    scale, inv = norm_scale(gamma, var, 1e-5)
    assert torch.equal(inv, torch.rsqrt(var + 1e-5)) and torch.equal(scale, gamma * inv)
    number = norm_scale(gamma[0, 0].item(), var[0, 0].item(), 1e-5)
    assert number == pytest.approx((scale[0, 0].item(), inv[0, 0].item()), rel=1e-15)


def test_what_is_small():
    assert is_small(2., 1.) and not is_small(2.01, 1.) and is_small(-2., 1.)
    x = torch.randn(2, 3, 8, 8)
    for offset, small in ((0, True), (10, False)):
        sums, squares = mo.channel_sum(x + offset), mo.channel_sum_squares(x + offset)
        assert mo.has_small_means(sums, squares, 128) is small
        assert mo.are_small(sums / 128, squares / 128 - (sums / 128)**2) is small
