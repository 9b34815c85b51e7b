"""Compare the NMS family with plain Python, and with mmcv's compiled ops if present."""

import sys

import pytest
import torch
from box_samples import SAMPLES

from mobileone_mm.benchmark.boxes import clustered
from mobileone_mm.utils.mmcv_ops import install_ops_fallback, nms

LITE = install_ops_fallback()
mmcv_ops = pytest.importorskip('mmcv.ops')
COMPILED = None if LITE else sys.modules['mmcv._ext']
needs_compiled = pytest.mark.skipif(
    LITE, reason='mmcv has no compiled ops here: make test-compiled')


def iou(a, b, offset=0):
    """The IoU of two boxes, in Python floats (float64)."""
    def area(x1, y1, x2, y2):
        return (x2 - x1 + offset) * (y2 - y1 + offset)

    inter = (max(0., min(a[2], b[2]) - max(a[0], b[0]) + offset)
             * max(0., min(a[3], b[3]) - max(a[1], b[1]) + offset))
    union = area(*a) + area(*b) - inter
    return inter / union if union else float('nan')


def naive_nms(boxes, scores, threshold, offset=0, score_threshold=0., max_num=-1):
    """Textbook greedy NMS; equal scores in the order of torch, whose sort is unstable."""
    order = scores.sort(0, descending=True)[1].tolist()
    boxes, scores = boxes.double().tolist(), scores.tolist()
    if score_threshold > 0:
        order = [i for i in order if scores[i] > score_threshold]
    kept = []
    for i in order:
        if not any(iou(boxes[k], boxes[i], offset) > threshold for k in kept):
            kept.append(i)
    return kept[:max_num] if max_num > 0 else kept


def naive_soft_nms(boxes, scores, threshold, sigma, min_score, method):
    """Soft-NMS as {index: score}: the paper's algorithm, without an order of ties."""
    boxes, left, done = boxes.double().tolist(), dict(enumerate(scores.double().tolist())), {}
    while left:
        top = max(left, key=left.get)
        done[top] = left.pop(top)
        for i in list(left):
            u = iou(boxes[top], boxes[i])
            if method == 'gaussian':
                left[i] *= torch.tensor(-u * u / sigma).exp().item()
            elif u >= threshold:
                left[i] *= 0 if method == 'naive' else 1 - u
            if left[i] < min_score:
                del left[i]
    return done


@pytest.mark.parametrize('sample', SAMPLES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('threshold', [0.3, 0.7])
def test_nms_equals_textbook(sample, offset, dtype, threshold):
    boxes, scores = SAMPLES[sample]()
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    kept = nms.nms(boxes, scores, threshold, offset)
    assert kept.dtype == torch.long
    assert kept.tolist() == naive_nms(boxes, scores, threshold, offset)


@needs_compiled
@pytest.mark.parametrize('sample', SAMPLES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0., 0.1, 0.5, 0.7, 1.])
def test_nms_equals_compiled(sample, offset, threshold):
    boxes, scores = SAMPLES[sample]()
    expected = COMPILED.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert torch.equal(nms.nms(boxes, scores, threshold, offset), expected)


@needs_compiled
@pytest.mark.parametrize('count', [127, 128, 129, 640, 641, 5000])
def test_nms_equals_compiled_at_block_edges_and_with_many_boxes(count):
    for size in (320, 3000):  # crowded, and hardly touching
        boxes, scores = clustered(count, centers=count, size=size)
        expected = COMPILED.nms(boxes, scores, iou_threshold=0.5, offset=0)
        assert torch.equal(nms.nms(boxes, scores, 0.5, 0), expected)


def test_5000_boxes_equal_textbook():
    boxes, scores = clustered(5000, centers=40)
    kept = nms.nms(boxes.double(), scores.double(), 0.5, 0)
    assert kept.tolist() == naive_nms(boxes, scores, 0.5)


def test_iou_at_the_threshold_does_not_suppress_in_nms_but_matches_in_nms_match():
    # IoU exactly 1/10, which float32 rounds up and float64 does too: compared in one precision.
    boxes = torch.tensor([[0., 0., 10., 10.], [0., 0., 10., 1.]])
    scores = torch.tensor([.9, .8])
    assert nms.nms(boxes, scores, 0.1, 0).tolist() == [0, 1]
    assert nms.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.1) == [[0, 1]]


@pytest.mark.parametrize('score_threshold', [0., 0.4])
@pytest.mark.parametrize('max_num', [-1, 7])
def test_mmcv_nms_end_to_end(score_threshold, max_num):
    boxes, scores = clustered(300, centers=30)
    boxes.requires_grad_()
    dets, kept = mmcv_ops.nms(boxes, scores, 0.5, score_threshold=score_threshold, max_num=max_num)
    expected = naive_nms(boxes, scores, 0.5, 0, score_threshold, max_num)
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes[expected], scores[expected, None]], 1))
    dets.sum().backward()  # the kept boxes' coordinates have gradients, as with the compiled op
    assert boxes.grad.sum() == 4 * len(expected)


def test_mmcv_nms_takes_arrays():
    boxes, scores = clustered(50)
    dets, kept = mmcv_ops.nms(boxes.numpy(), scores.numpy(), 0.5)
    assert kept.tolist() == naive_nms(boxes, scores, 0.5)
    assert dets.shape == (len(kept), 5)


@pytest.mark.parametrize('split_thr', [10000, 100])
@pytest.mark.parametrize('class_agnostic', [False, True])
def test_mmcv_batched_nms_end_to_end(split_thr, class_agnostic):
    boxes, scores = clustered(300, centers=20)
    labels = torch.arange(300) % 5
    cfg = dict(type='nms', iou_threshold=0.5, split_thr=split_thr)
    dets, kept = mmcv_ops.batched_nms(boxes, scores, labels, cfg, class_agnostic=class_agnostic)
    # Split by class, even if class_agnostic, as mmcv's batched_nms does with many boxes.
    groups = [range(300)] if class_agnostic and split_thr > 300 else [
        torch.nonzero(labels == c)[:, 0].tolist() for c in range(5)]
    expected = []
    for group in groups:
        index = torch.tensor(list(group))
        expected += index[naive_nms(boxes[index], scores[index], 0.5)].tolist()
    expected.sort(key=lambda i: -scores[i])
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes[expected], scores[expected, None]], 1))


@pytest.mark.parametrize('count', [0, 1])
def test_mmcv_batched_nms_with_hardly_any_box(count):
    boxes, scores = clustered(1)
    dets, kept = mmcv_ops.nms(boxes[:count], scores[:count], 0.5)
    assert dets.shape == (count, 5) and kept.tolist() == list(range(count))
    if count:
        dets, kept = mmcv_ops.batched_nms(boxes, scores, torch.zeros(1), dict(iou_threshold=0.5))
        assert dets.shape == (1, 5) and kept.tolist() == [0]


def test_nms_match_groups_partition_the_boxes():
    boxes, scores = clustered(200)
    groups = mmcv_ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)
    assert sorted(i for group in groups for i in group.tolist()) == list(range(200))
    left = set(range(200))
    for top, *others in (group.tolist() for group in groups):
        assert scores[top] == max(scores[i] for i in left)
        left.remove(top)
        expected = {i for i in left if iou(boxes[top].tolist(), boxes[i].tolist()) >= 0.5}
        assert set(others) == expected
        left -= expected


@needs_compiled
@pytest.mark.parametrize('sample', [name for name in SAMPLES if name != 'empty'])
def test_nms_match_equals_compiled(sample):
    boxes, scores = SAMPLES[sample]()
    dets = torch.cat([boxes, scores[:, None]], 1)
    assert nms.nms_match(dets, 0.5) == COMPILED.nms_match(dets, iou_threshold=0.5)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_mmcv_soft_nms_equals_textbook(method):
    boxes, scores = clustered(120, centers=10)
    dets, kept = mmcv_ops.soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method)
    expected = naive_soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method)
    assert sorted(kept.tolist()) == sorted(expected)
    assert torch.equal(dets[:, :4], boxes[kept])
    # float32 against float64, after up to 120 factors
    torch.testing.assert_close(dets[:, 4], torch.tensor([expected[i] for i in kept.tolist()]),
                               rtol=2e-5, atol=0)


@needs_compiled
@pytest.mark.parametrize('sample', SAMPLES)
@pytest.mark.parametrize('method', [0, 1, 2])
@pytest.mark.parametrize('offset', [0, 1])
def test_softnms_equals_compiled(sample, method, offset):
    boxes, scores = SAMPLES[sample]()
    outcomes = []
    for op in (nms.softnms, COMPILED.softnms):
        dets = torch.zeros(len(boxes), 5)
        kept = op(boxes, scores, dets, iou_threshold=0.3, sigma=0.5, min_score=1e-3,
                  method=method, offset=offset)
        outcomes.append((kept, dets[:len(kept)]))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    # Equal to the last bit, except for the Gaussian, whose exp() may differ there.
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], equal_nan=True, atol=0,
                               rtol=1e-6 if method == 2 else 0)
