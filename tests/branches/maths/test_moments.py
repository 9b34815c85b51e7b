"""Compare moments of patches with torch's unfold, and their gradients with autograd."""

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.branches.maths import lags
from mobileone_mm.branches.maths import moments as mo

SHAPES = [mo.ConvShape(3, 1, 1, 1), mo.ConvShape(3, 2, 1, 1), mo.ConvShape(3, 1, 2, 2),
          mo.ConvShape(5, 3, 2, 1), mo.ConvShape(1, 2, 0, 1), mo.ConvShape(3, 1, 0, 1)]
SIZES = [(7, 6), (5, 9), (5, 5)]


def unfolded(x, shape):
    """(C, K, n) patches of each channel."""
    one = x.flatten(0, 1).unsqueeze(1)
    p = F.unfold(one, shape.kernel_size, shape.dilation, shape.padding, shape.stride)
    return p.unflatten(0, x.shape[:2]).permute(1, 2, 0, 3).flatten(2)


def moments_of(p):
    mean = p.mean(-1, keepdim=True)
    return mean.squeeze(-1), (p - mean) @ (p - mean).mT / p.shape[-1]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('shape', SHAPES)
def test_depthwise_and_dense_moments(shape, size):
    x = torch.randn(3, 4, *size, dtype=torch.float64) + 2
    p = unfolded(x, shape)
    for found, patches in ((mo.depthwise_patch_moments(x, shape), p),
                           (mo.dense_moments(x, shape), p.flatten(0, 1))):
        mean, cov = moments_of(patches)
        assert found.count == p.shape[2]
        assert torch.allclose(found.mean, mean, rtol=1e-12, atol=1e-12)
        assert torch.allclose(found.cov, cov, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('size', [*SIZES, (2, 2), (2, 7), (3, 3)])
def test_lag_moments(size):
    x = torch.randn(3, 4, *size, dtype=torch.float64) + 2
    mean, cov = moments_of(unfolded(x, lags.LAG_SHAPE))
    found = lags.depthwise_lag_moments(x)
    assert torch.allclose(found.mean, mean, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found.cov, cov, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('size', [*SIZES, (2, 2), (2, 7), (3, 3)])
def test_lag_input_grad(size):
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    quadratic, linear = torch.randn(4, 9, 9).double(), torch.randn(4, 9).double()
    quadratic = quadratic + quadratic.mT
    p = unfolded(x, lags.LAG_SHAPE)
    loss = ((quadratic @ p) * p).sum() / 2 + (linear.unsqueeze(2) * p).sum()
    expected, = torch.autograd.grad(loss, x)
    found = lags.depthwise_lag_input_grad(x.detach(), quadratic, linear)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_nearly_centered_moments():
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    for offset in (1, 1e3):
        _check_nearly_centered(x + offset, shifted=offset > 1)
        _check_nearly_centered((x + offset).to(memory_format=torch.channels_last), offset > 1)


def _check_nearly_centered(x, shifted):
    near = mo.nearly_centered(x)
    assert (near.shift is not None) is shifted
    mean, cov, _ = mo.Moments.of_sums(near.sums[:, None], near.squares[:, None, None],
                                      x.numel() // 4, near.shift[:, None] if shifted else None)
    assert torch.allclose(mean[:, 0], x.mean((0, 2, 3)), rtol=1e-14)
    assert torch.allclose(cov[:, 0, 0], x.var((0, 2, 3), unbiased=False), rtol=1e-11)


@pytest.mark.parametrize('offset', [0, 10, 100, 1000])
def test_centered_gram_keeps_precision(offset):
    """In float32, compared with the raw Gram matrix, which cancels."""
    x = torch.randn(8, 16, 20, 20) + offset
    exact = mo.dense_moments(x.double(), mo.ConvShape()).cov
    weight = torch.randn(32, 16)
    variance = ((weight.double() @ exact) * weight).sum(1)
    found = ((weight @ mo.dense_moments(x, mo.ConvShape()).cov) * weight).sum(1).double()
    assert ((found - variance).abs() / variance).max() < 2e-6
    flat = x.transpose(0, 1).flatten(1)
    raw = flat @ flat.t() / flat.shape[1] - torch.outer(flat.mean(1), flat.mean(1))
    raw = ((weight @ raw) * weight).sum(1).double()
    if offset >= 100:
        assert ((raw - variance).abs() / variance).max() > 1e-3


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('shape', [(3, 70, 9, 9), (4, 33, 8, 9), (1, 5, 16, 16), (8, 40, 4, 4)])
def test_gram(shape, threads):
    x = torch.randn(shape, dtype=torch.float64)
    flat = x.transpose(0, 1).flatten(1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.allclose(mo.gram(x), flat @ flat.t(), rtol=0, atol=1e-10)
    finally:
        torch.set_num_threads(before)
