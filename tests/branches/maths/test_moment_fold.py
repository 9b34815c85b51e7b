"""The fold is what the branches compute; its algebra where mistakes are hard to see."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.branches.maths import moments as mo
from mobileone_mm.branches.maths.moment_fold import (
    BranchStatistics,
    DenseKernels,
    DepthwiseKernels,
    FoldState,
    fold_backward,
    fold_bias,
)
from mobileone_mm.branches.maths.norm_algebra import (
    is_small,
    mean_terms,
    moment_grads,
    norm_scale,
    variance_terms,
)

EPS = 1e-3
IDENTITY = torch.tensor([3, 0, 4, 2])
KINDS = {
    'depthwise': ((4, 5), DepthwiseKernels),
    'dense': ((6, ), DenseKernels),
    'dense with the identity': ((6, ), partial(DenseKernels, identity=IDENTITY)),
}


def convolve(kernel, p):
    """(C, n) from a kernel (C, K) and patches (C, K, n) or (K, n)."""
    return torch.einsum('ck,ckn->cn' if p.dim() == 3 else 'ck,kn->cn', kernel, p)


def branch_maps(weight, p, kind):
    """What the norms read: (b, C, n)."""
    maps = [convolve(one, p) for one in weight]
    return torch.stack([*maps, p[IDENTITY]] if 'identity' in kind else maps)


def textbook(maps, gamma, beta, running, frozen):
    """The sum of torch's batch norms: (C, n)."""
    return sum(
        F.batch_norm(y.t(), *(running[:, b] if b in frozen else (None, None)), gamma[b], beta[b],
                     training=b not in frozen, eps=EPS).t() for b, y in enumerate(maps))


def fold(kernels, p, grad, beta, norms, used_mean):
    """What a process computes: its output and, given ``reduce``, its gradients."""
    dtype, count = p.dtype, p.shape[-1]
    mean = p.double().mean(-1)
    centered = p - mean.unsqueeze(-1).to(dtype)
    products = kernels.times(centered @ centered.mT / count)
    own_mean = kernels.project(mean)
    if used_mean is not None:
        norms = norms._replace(shift=own_mean - used_mean)
    kernel = kernels.combine(norms.scale).requires_grad_()
    bias = fold_bias(kernel.detach(), mean, beta, norms.scale, norms.shift)
    assert own_mean.dtype == bias.dtype == torch.float64 and kernel.dtype == dtype
    grad_kernel, to_p = torch.autograd.grad(convolve(kernel, centered.requires_grad_()),
                                            (kernel, centered), grad.to(dtype))

    def backward(reduce=None):
        found = fold_backward(kernels, FoldState(mean, products, norms), grad_kernel,
                              grad.sum(1).to(dtype), count, reduce)
        assert found.weight.dtype == found.quadratic.dtype == dtype
        assert found.linear.dtype == torch.float64
        to_input = to_p + found.quadratic @ p + found.linear.unsqueeze(-1)
        return found.weight, found.gamma, found.beta, to_input

    return convolve(kernel.detach().double(), p.double()) + bias.unsqueeze(1), backward


def in_all_processes(backwards, total):
    """Call a backward per process, whose reduce sums over all of them."""
    if len(backwards) == 1:
        return [backwards[0]()]
    values = []
    for backward in backwards:
        backward(lambda tensor: (values.append(tensor) or tensor, total))
    return [backward(lambda _: (sum(values), total)) for backward in backwards]


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 2e-4)])
@pytest.mark.parametrize('sizes', [(20, ), (13, 7)])  # of each process's part
@pytest.mark.parametrize('frozen', [[], [1], [0, 2]])
@pytest.mark.parametrize('kind', KINDS)
def test_the_fold_and_its_gradients_are_the_branches(kind, frozen, sizes, dtype, tolerance):
    lead, make = KINDS[kind]
    p = torch.randn(*lead, 20).to(dtype) + 1
    weight = torch.randn(2 if 'identity' in kind else 3, 4, lead[-1]).to(dtype)
    gamma, beta, *running = torch.rand(4, 3, 4, dtype=torch.float64) + .5
    running, grad = torch.stack(running), torch.randn(4, 20, dtype=torch.float64)

    leaves = [t.double().requires_grad_() for t in (weight, gamma, beta, p)]
    maps = branch_maps(leaves[0], leaves[3], kind)
    expected = textbook(maps, *leaves[1:3], running, frozen)
    expected_grads = torch.autograd.grad(expected, leaves, grad)

    mean, var = maps.detach().mean(2), maps.detach().var(2, unbiased=False)
    mean[frozen], var[frozen] = running[:, frozen]
    batch = torch.ones(3, 1, dtype=dtype)
    batch[frozen] = 0
    norms = BranchStatistics(*norm_scale(gamma.to(dtype), var.to(dtype), EPS),
                             batch if frozen else None, None)
    needs_shift = frozen or len(sizes) > 1
    outputs, backwards = zip(*(
        fold(make(weight), part, g, beta, norms, mean if needs_shift else None)
        for part, g in zip(p.split(sizes, -1), grad.split(sizes, -1))))
    weights, gammas, betas, inputs = zip(*in_all_processes(backwards, total=20))
    actual = (torch.cat(outputs, -1), sum(weights), sum(gammas), sum(betas).expand(3, 4),
              torch.cat(inputs, -1))
    for found, reference in zip(actual, (expected, *expected_grads)):
        torch.testing.assert_close(found.double(), reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('kind', KINDS)
def test_variances_of_the_branches(kind):
    lead, make = KINDS[kind]
    p, weight = torch.randn(*lead, 20).double(), torch.randn(2, 4, lead[-1]).double()
    centered = p - p.mean(-1, keepdim=True)
    cov = centered @ centered.mT / 20
    found = make(weight).variances(cov, make(weight).times(cov))
    torch.testing.assert_close(found, branch_maps(weight, p, kind).var(2, unbiased=False))


@pytest.mark.parametrize('make', [DepthwiseKernels, DenseKernels])
def test_variances_are_never_negative(make):
    kernels = make(torch.ones(1, 2, 1))
    products = torch.tensor([-1e-9, .25]).view(1, 2, 1)
    assert kernels.variances(torch.zeros(2, 1, 1), products).tolist() == [[0, .25]]


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
    assert is_small(4., 4.) and not is_small(4.01, 4.) and is_small(-4., 4.)
    x = torch.randn(2, 3, 8, 8)
    for offset, small in ((0, True), (10, False)):
        sums, squares = mo.channel_sum(x + offset), mo.channel_sum_squares(x + offset)
        assert mo.has_small_means(sums, squares, 128) is small
        assert mo.are_small(sums / 128, squares / 128 - (sums / 128)**2) is small
