"""torchvision's operators are used if they work, or else ours."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from box_samples import SAMPLES

from mobileone_mm.utils.mmcv_ops import nms as own
from mobileone_mm.utils.mmcv_ops import roi_align as own_roi_align
from mobileone_mm.utils.mmcv_ops import with_torchvision as ops


@pytest.fixture(autouse=True)
def _ask_again():
    ops._torchvision.cache_clear()
    yield
    ops._torchvision.cache_clear()


@pytest.fixture
def stub(monkeypatch):
    """A stand-in for torchvision's operator namespace that records calls."""
    calls = []

    def nms(boxes, scores, threshold):
        calls.append((boxes, scores, threshold))
        return own.nms(boxes, scores, threshold, 0)

    def roi_align(*args):
        calls.append(args)
        return torch.full((len(args[1]), args[0].shape[1], *args[3:5]), 3., dtype=args[0].dtype)

    def roi_align_backward(*args):
        calls.append(args)
        return torch.full(args[5:9], 2., dtype=args[0].dtype)

    monkeypatch.setitem(sys.modules, 'torchvision', ModuleType('torchvision'))
    monkeypatch.setattr(torch.ops, 'torchvision', SimpleNamespace(
        nms=nms, roi_align=roi_align, _roi_align_backward=roi_align_backward), raising=False)
    return calls


BOXES = torch.tensor([[0., 0., 9., 9.], [0., 1., 9., 9.], [20., 20., 25., 29.]])
SCORES = torch.tensor([.5, .9, .1])
ROI = dict(aligned_height=2, aligned_width=3, spatial_scale=.5, sampling_ratio=0, aligned=True)


def test_nms_of_torchvision_is_used(stub):
    assert ops.nms(BOXES.half(), SCORES.half(), .5, 1).tolist() == [1, 2]
    boxes, scores, threshold = stub[-1]
    assert boxes.dtype == scores.dtype == torch.float32 and threshold == .5
    assert boxes[1].tolist() == [0, 0, 10, 10], 'the offset widens the boxes'


def test_roi_align_of_torchvision_is_used(stub):
    x, rois = torch.randn(2, 4, 8, 8), torch.tensor([[1., 2., 2., 9., 9.]])
    out, unused = torch.zeros(1, 4, 2, 3), torch.empty(0)
    ops.roi_align_forward(x, rois, out, unused, unused, pool_mode=1, **ROI)
    assert stub[-1][2:] == (.5, 2, 3, 0, True) and (out == 3).all()
    grad = torch.ones_like(x)
    ops.roi_align_backward(out, rois, unused, unused, grad, pool_mode=1, **ROI)
    assert stub[-1][2:] == (.5, 2, 3, 2, 4, 8, 8, 0, True) and (grad == 3).all()
    with pytest.raises(NotImplementedError, match='avg'):
        ops.roi_align_forward(x, rois, out, unused, unused, pool_mode=0, **ROI)


@pytest.mark.parametrize('fault', ['missing', 'operator', 'device'])
def test_ours_are_used_where_it_does_not_work(fault, stub, monkeypatch):
    """Not installed, for another release of torch, or built without this device."""
    def refuse(*args):
        raise NotImplementedError("Could not run 'torchvision::nms' from the 'CUDA' backend")

    if fault == 'missing':
        monkeypatch.setitem(sys.modules, 'torchvision', None)
    elif fault == 'operator':
        del torch.ops.torchvision.nms
    else:
        torch.ops.torchvision.nms = refuse
    assert ops.nms(BOXES, SCORES, .5, 0).tolist() == [1, 2]
    out = torch.zeros(1, 4, 2, 3)
    args = torch.ones(1, 4, 8, 8), torch.tensor([[0., 2., 2., 9., 9.]]), out, out, out
    ops.roi_align_forward(*args, pool_mode=1, **ROI)
    assert not stub and torch.allclose(out, torch.ones(()))


@pytest.mark.parametrize('sample', SAMPLES)
def test_the_real_one_keeps_what_ours_keep(sample):
    if ops._torchvision('cpu') is None:
        pytest.skip('no torchvision that works with this torch')
    boxes, scores = SAMPLES[sample]()[:2]
    for offset in (0, 1):
        assert torch.equal(ops.nms(boxes, scores, .5, offset), own.nms(boxes, scores, .5, offset))


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_the_real_one_pools_what_ours_pool(sampling_ratio, aligned):
    if ops._torchvision('cpu') is None:
        pytest.skip('no torchvision that works with this torch')
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 12, 15, generator=generator)
    corners = 30 * torch.rand(9, 2, generator=generator)
    rois = torch.cat([torch.arange(9.).view(-1, 1) % 2, corners,
                      corners + 9 * torch.rand(9, 2, generator=generator)], 1)
    settings = dict(ROI, sampling_ratio=sampling_ratio, aligned=aligned, pool_mode=1)
    results = []
    for module in (ops, own_roi_align):
        out, grad = torch.zeros(9, 3, 2, 3), torch.zeros_like(x)
        module.roi_align_forward(x, rois, out, out, out, **settings)
        module.roi_align_backward(torch.ones_like(out), rois, out, out, grad, **settings)
        results.append((out, grad))
    for actual, expected in zip(*results):
        assert torch.allclose(actual, expected, atol=1e-5)
