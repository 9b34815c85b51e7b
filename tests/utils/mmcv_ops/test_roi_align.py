"""Compare RoIAlign with plain Python, and with mmcv's compiled op if present."""

import itertools
import math
import sys

import pytest
import torch

from mobileone_mm.utils.mmcv_ops import install_ops_fallback, roi_align

LITE = install_ops_fallback()
mmcv_ops = pytest.importorskip('mmcv.ops')
OPTIONS = [dict(spatial_scale=scale, sampling_ratio=ratio, aligned=aligned, aligned_height=3,
                aligned_width=4)
           for scale, ratio, aligned in itertools.product((.25, 1.), (0, 2), (False, True))]
ROIS = torch.tensor([
    [0, 3., 2., 17., 21.],  # an ordinary one
    [1, 0., 0., 40., 28.],  # the whole image
    [1, -9., -7., 55., 60.],  # beyond its borders
    [0, 5.5, 5.5, 5.5, 5.5],  # empty
    [0, 8.2, 3.7, 8.9, 30.],  # narrower than a pixel
    [1, 90., 90., 99., 99.],  # outside
], dtype=torch.float64)


def naive(image, roi, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned):
    """Mask R-CNN's RoIAlign of one channel, sample by sample in Python floats."""
    height, width = image.shape
    x1, y1, x2, y2 = ((v * spatial_scale - (.5 if aligned else 0.)) for v in roi[1:].tolist())
    roi_w, roi_h = x2 - x1, y2 - y1
    if not aligned:
        roi_w, roi_h = max(roi_w, 1.), max(roi_h, 1.)
    bin_h, bin_w = roi_h / aligned_height, roi_w / aligned_width
    grid_h = sampling_ratio or math.ceil(bin_h)
    grid_w = sampling_ratio or math.ceil(bin_w)

    def sample(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.
        y, x = min(max(y, 0.), height - 1), min(max(x, 0.), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        return (image[top, left] * (1 - dy) * (1 - dx) + image[top, right] * (1 - dy) * dx
                + image[bottom, left] * dy * (1 - dx) + image[bottom, right] * dy * dx)

    return torch.tensor([[
        float(sum(sample(y1 + p * bin_h + (i + .5) * bin_h / grid_h,
                         x1 + q * bin_w + (j + .5) * bin_w / grid_w)
                  for i in range(grid_h) for j in range(grid_w))) / max(grid_h * grid_w, 1)
        for q in range(aligned_width)] for p in range(aligned_height)], dtype=torch.float64)


def ours(features, rois, options):
    output = features.new_empty(len(rois), features.shape[1], 3, 4)
    roi_align.roi_align_forward(features, rois, output, None, None, pool_mode=1, **options)
    return output


@pytest.mark.parametrize('options', OPTIONS)
def test_forward_is_the_definition(options):
    features = torch.randn(2, 2, 28, 40, dtype=torch.float64)
    expected = torch.stack([
        torch.stack([naive(channel, roi, **options) for channel in features[int(roi[0])]])
        for roi in ROIS])
    torch.testing.assert_close(ours(features, ROIS, options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('options', OPTIONS)
def test_backward_is_the_adjoint(options):
    """<g, A x> = <A^T g, x>, which defines the gradient of a linear map."""
    x = torch.randn(2, 2, 28, 40, dtype=torch.float64)
    g = torch.randn(len(ROIS), 2, 3, 4, dtype=torch.float64)
    grad = torch.zeros_like(x)
    roi_align.roi_align_backward(g, ROIS, None, None, grad, pool_mode=1, **options)
    pooled = ours(x, ROIS, options)
    assert pooled.abs().sum() > 1
    torch.testing.assert_close((grad * x).sum(), (g * pooled).sum(), rtol=0, atol=1e-11)


def test_through_mmcv_with_gradient():
    """mmcv.ops.roi_align, on whichever op is present."""
    features = torch.randn(2, 3, 28, 40, dtype=torch.float64, requires_grad=True)
    output = mmcv_ops.roi_align(features, ROIS, (3, 4), .25, 2, 'avg', True)
    torch.testing.assert_close(output, ours(features.detach(), ROIS, OPTIONS[3]),
                               rtol=0, atol=1e-12)
    output.sum().backward()
    grad = torch.zeros_like(features)
    roi_align.roi_align_backward(torch.ones_like(output), ROIS, None, None, grad, pool_mode=1,
                                 **OPTIONS[3])
    torch.testing.assert_close(features.grad, grad, rtol=0, atol=1e-12)
    assert mmcv_ops.roi_align(features, ROIS[:0], (3, 4)).shape == (0, 3, 3, 4)


@pytest.mark.skipif(LITE, reason='mmcv has no compiled ops here: make test-compiled')
@pytest.mark.parametrize('dtype, atol', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize('options', OPTIONS)
def test_equals_the_compiled_op(options, dtype, atol):
    ext = sys.modules['mmcv._ext']
    features, rois = torch.randn(2, 5, 28, 40, dtype=dtype), ROIS.to(dtype)
    output, argmax = features.new_zeros(len(rois), 5, 3, 4), features.new_zeros(0)
    ext.roi_align_forward(features, rois, output, argmax, argmax, pool_mode=1, **options)
    torch.testing.assert_close(ours(features, rois, options), output, rtol=0, atol=atol)
    grads = []
    g = torch.randn_like(output)
    for op in (ext, roi_align):
        grads.append(torch.zeros_like(features))
        op.roi_align_backward(g, rois, argmax, argmax, grads[-1], pool_mode=1, **options)
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=10 * atol)


def test_max_pooling_is_refused():
    with pytest.raises(NotImplementedError, match="only with pool_mode='avg'"):
        roi_align.roi_align_forward(torch.zeros(1, 1, 4, 4), ROIS, ROIS, None, None, pool_mode=0)
