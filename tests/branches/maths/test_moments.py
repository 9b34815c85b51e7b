"""Compare moments of patches with torch's unfold, and their gradients with autograd."""

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.branches.maths import lags
from mobileone_mm.branches.maths import moments as mo

SHAPES = [mo.ConvShape(3, 1, 1, 1), mo.ConvShape(3, 2, 1, 1), mo.ConvShape(3, 1, 2, 2),
          mo.ConvShape(5, 3, 2, 1), mo.ConvShape(1, 2, 0, 1), mo.ConvShape(3, 1, 0, 1)]
SIZES = [(7, 6), (5, 9), (5, 5)]


def unfolded_images(x, shape):
    """(B, C, K, positions) patches."""
    one = x.flatten(0, 1).unsqueeze(1)
    p = F.unfold(one, shape.kernel_size, shape.dilation, shape.padding, shape.stride)
    return p.unflatten(0, x.shape[:2])


def unfolded(x, shape):
    """(C, K, n) patches of each channel."""
    return unfolded_images(x, shape).permute(1, 2, 0, 3).flatten(2)


def moments_of(p):
    mean = p.mean(-1, keepdim=True)
    return mean.squeeze(-1), (p - mean) @ (p - mean).mT / p.shape[-1]


@pytest.mark.parametrize('offset', [.5, 3])  # with means that are small, and too large
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('shape', [*SHAPES, mo.ConvShape()])
def test_depthwise_and_dense_moments(shape, size, offset):
    x = torch.randn(3, 4, *size, dtype=torch.float64) + offset
    p = unfolded(x, shape)
    for found, patches in ((mo.depthwise_patch_moments(x, shape), p),
                           (mo.dense_moments(x, shape), p.flatten(0, 1))):
        mean, cov = moments_of(patches)
        assert found.count == p.shape[2]
        assert torch.allclose(found.mean, mean, rtol=1e-12, atol=1e-12)
        assert torch.allclose(found.cov, cov, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('moments', [mo.depthwise_patch_moments, mo.dense_moments])
@pytest.mark.parametrize('offset', [0, 100])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_moments_of_rounded_inputs(dtype, offset, moments):
    """They are float32, and the means float64."""
    shape = mo.ConvShape(3, 1, 1, 1)
    x = (torch.randn(3, 4, 7, 6) + offset).to(dtype)
    found, exact = moments(x, shape), moments(x.double(), shape)
    assert found.mean.dtype == torch.float64 and found.cov.dtype == torch.float32
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-6, atol=1e-6)
    scale = exact.cov.abs().max()
    torch.testing.assert_close(found.cov.double() / scale, exact.cov / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize('moments', [mo.depthwise_patch_moments, mo.dense_moments])
@pytest.mark.parametrize('kernel_size', [1, 3])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_large_means_cost_no_digits(dtype, kernel_size, moments):
    """Float32 means and raw second moments would be off, and sums in float16 would overflow."""
    x, shape = (torch.randn(3, 4, 9, 8) + 1000).to(dtype), mo.ConvShape(kernel_size)
    p = unfolded(x.double(), shape)
    mean, cov = moments_of(p.flatten(0, 1) if moments is mo.dense_moments else p)
    found = moments(x, shape)
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.cov.double(), cov, rtol=0, atol=1e-5)


@pytest.mark.parametrize('shape', SHAPES)
def test_patches_and_their_adjoint(shape):
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    p = unfolded_images(x, shape)
    assert torch.equal(mo.patches(x, shape), p)
    grad = torch.randn_like(p)
    expected, = torch.autograd.grad(p, x, grad)
    torch.testing.assert_close(mo.scatter_patches(grad, (7, 6), shape), expected)


def test_chunks_hold_all_channels_once(monkeypatch):
    x, shape = torch.randn(2, 5, 4, 4, dtype=torch.float64), mo.ConvShape(3, 1, 1, 1)
    whole = mo.depthwise_patch_moments(x, shape)
    for most, step in ((0, 1), (9 * 16 * 2, 2), (9 * 16 * 5, 5), (1 << 18, 5)):
        monkeypatch.setattr(mo, 'CHUNK_ELEMENTS', most)
        assert list(mo._chunks(x, shape)) == [
            (image, slice(start, min(5, start + step)))
            for image in range(2) for start in range(0, 5, step)]
        found = mo.depthwise_patch_moments(x, shape)
        assert torch.allclose(found.cov, whole.cov) and torch.allclose(found.mean, whole.mean)
    empty = mo._chunks(x[:, :, :0], mo.ConvShape())
    assert list(empty) == [(0, slice(0, 5)), (1, slice(0, 5))]


def expected_grad(x, shape, quadratic, linear, grad, kernel, groups):
    """The input's gradient from autograd."""
    x = x.detach().double().contiguous().requires_grad_()
    kernel = kernel.double().view(len(kernel), -1, shape.kernel_size, shape.kernel_size)
    y = F.conv2d(x, kernel, None, shape.stride, shape.padding, shape.dilation, groups)
    p = unfolded(x, shape)
    p = p if groups > 1 else p.flatten(0, 1)
    loss = (y * grad.double()).sum() + (quadratic.double() @ p * p).sum() / 2 + (
        linear.double().unsqueeze(-1) * p).sum()
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize('size', [(7, 6), (8, 9)])
@pytest.mark.parametrize('shape', [*SHAPES, mo.ConvShape()])
@pytest.mark.parametrize('kind', ['float64', 'channels_last', 'float32', 'float32 inputs'])
@pytest.mark.parametrize('depthwise', [False, True])
def test_input_grads(depthwise, kind, shape, size, monkeypatch):
    """Of float32 inputs too, with float64 factors, and gradients in either type."""
    monkeypatch.setattr(mo, 'CHUNK_ELEMENTS', 200)
    x = torch.randn(3, 4, *size).to(torch.float32 if 'float32' in kind else torch.float64)
    if kind == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    taps = shape.kernel_size**2 * (1 if depthwise else 4)
    lead = (4, ) if depthwise else ()
    quadratic = torch.randn(*lead, taps, taps, dtype=torch.float64)
    quadratic = quadratic + quadratic.mT
    linear = torch.randn(*lead, taps, dtype=torch.float64)
    channels = 4 if depthwise else 5
    kernel = torch.randn(channels, taps, dtype=torch.float64)
    grad = torch.randn(3, channels, *(shape.out_size(n) for n in size), dtype=torch.float64)
    if kind == 'float32':
        grad = grad.float()
    function = mo.depthwise_patch_input_grad if depthwise else mo.dense_input_grad
    found = function(x, shape, quadratic, linear, grad, kernel)
    expected = expected_grad(x, shape, quadratic, linear, grad, kernel, 4 if depthwise else 1)
    assert found.dtype == x.dtype
    tolerance = 1e-11 if x.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance * 10)


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
    p = unfolded(x, lags.LAG_SHAPE)
    expected, = torch.autograd.grad(p, x, quadratic @ p.detach() + linear.unsqueeze(2))
    found = lags.depthwise_lag_input_grad(x.detach(), quadratic, linear)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_lag_moments_of_rounded_inputs(dtype):
    for offset in (0, 100):
        x = (torch.randn(3, 4, 7, 6) + offset).to(dtype)
        found, exact = lags.depthwise_lag_moments(x), lags.depthwise_lag_moments(x.double())
        assert found.mean.dtype == torch.float64 and found.cov.dtype == torch.float32
        assert found.count == 126
        torch.testing.assert_close(found.mean, exact.mean, rtol=1e-6, atol=1e-6)
        scale = exact.cov.abs().max()
        torch.testing.assert_close(found.cov.double() / scale, exact.cov / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize('inplace', [False, True])
@pytest.mark.parametrize('offset', [0, 1000])
def test_centering_in_place(offset, inplace):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64) + offset
    before = x.clone()
    near = mo.nearly_centered(x, inplace)
    if not offset:
        assert near.x is x and torch.equal(x, before)
        return
    assert (near.x is x) is inplace and torch.equal(x, before) is not inplace
    assert torch.equal(near.shift, before[0].mean((1, 2)))
    torch.testing.assert_close(near.x, before - near.shift.view(1, -1, 1, 1))
    torch.testing.assert_close(near.sums, near.x.sum((0, 2, 3)))
    torch.testing.assert_close(near.squares, near.x.square().sum((0, 2, 3)))
    assert mo.nearly_centered(before).x is not before


def test_small_means_are_those_of_the_formula():
    """``mean^2 <= 4 var``, that is ``sum^2 <= 4/5 n sum of squares``, in every channel."""
    squares = torch.tensor([5., 5.])
    assert mo.has_small_means(torch.tensor([4., -4.]), squares, 4)
    assert not mo.has_small_means(torch.tensor([4., 4.01]), squares, 4)


def test_nearly_centered_moments():
    x = torch.randn(3, 2, 8, 6, dtype=torch.float64)
    for offset in (1, 1e3):
        _check_nearly_centered(x + offset, shifted=offset > 1)
        _check_nearly_centered((x + offset).to(memory_format=torch.channels_last), offset > 1)


def _check_nearly_centered(x, shifted):
    near = mo.nearly_centered(x)
    assert (near.shift is not None) is shifted
    mean, cov, _ = mo.Moments.of_sums(near.sums[:, None], near.squares[:, None, None],
                                      x.numel() // 2, near.shift[:, None] if shifted else None)
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


def test_small_maps_lie_side_by_side():
    for shape, together in (((2, 3, 7, 9), True), ((2, 3, 8, 8), False), ((1, 3, 2, 2), False)):
        x = torch.randn(shape)
        found = mo._as_one_image(x)
        if together:
            assert torch.equal(found, torch.cat(list(x.flatten(2)), 1)[None, :, None])
        else:
            assert found is x


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('shape', [(3, 70, 9, 9), (4, 33, 8, 9), (1, 5, 16, 16), (8, 40, 4, 4),
                                   (2, 130, 8, 8)])
def test_gram(shape, threads):
    x = torch.randn(shape, dtype=torch.float64)
    flat = x.transpose(0, 1).flatten(1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.allclose(mo.gram(x), flat @ flat.t(), rtol=0, atol=1e-10)
    finally:
        torch.set_num_threads(before)
