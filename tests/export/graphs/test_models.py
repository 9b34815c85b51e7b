"""Compare the exported graphs with mmdet and mmseg."""

import export_models
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

pytest.importorskip('mmdet', reason='the detection library is not installed')
pytest.importorskip('mmseg', reason='the segmentation library is not installed')

from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.graphs.models import (
    DetectorGraph,
    RawDetectorGraph,
    SegmentorGraph,
    decode_deltas,
)
from mobileone_mm.folding.reparameterize import reparameterize  # noqa: E402


@pytest.fixture(scope='module')
def detector():
    return export_models.model(export_models.config(export_models.DETECTION))


@pytest.fixture(scope='module')
def segmentor():
    return export_models.model(export_models.config(export_models.SEGMENTATION))


def predict(model, batch, sample):
    """The model's own results for images from the data loader."""
    meta = dict(img_shape=batch.shape[2:], ori_shape=batch.shape[2:], scale_factor=(1., 1.))
    samples = [sample(metainfo=meta) for _ in batch]
    with torch.no_grad():
        return model.test_step(dict(inputs=list(batch), data_samples=samples))


def assert_same_detections(expected: InstanceData, boxes, scores, labels):
    """Equal as sets: the order of boxes with equal scores is not defined."""
    found = scores > 0
    assert int(found.sum()) == len(expected.scores)
    assert (labels[~found] == -1).all() and (boxes[~found] == 0).all()
    torch.testing.assert_close(scores[found], expected.scores)
    for box, score, label in zip(expected.bboxes, expected.scores, expected.labels):
        same = (labels == label) & ((scores - score).abs() < 1e-5)
        assert (boxes[same] - box).abs().amax(1).min() < 1e-3


@pytest.mark.parametrize('size', [(2, 192, 192), (1, 96, 160)])
def test_detector_graph_equals_mmdets_prediction(detector, size):
    batch, folded = export_models.images(*size), reparameterize(detector, fuse_conv_bn=True)
    expected = predict(folded, batch, DetDataSample)
    with torch.no_grad():
        graph = DetectorGraph(folded)(batch.float())
    assert len({int(label) for label in graph[2].flatten()}) > 2  # more than one class and padding
    for sample, boxes, scores, labels in zip(expected, *graph):
        assert_same_detections(sample.pred_instances, boxes, scores, labels)


@pytest.mark.parametrize('change', [dict(nms_pre=20), dict(score_thr=.6), dict(max_per_img=3),
                                    dict(min_bbox_size=20), dict(nms=dict(iou_threshold=.2))])
def test_every_setting_of_test_cfg_counts(detector, change):
    batch, folded = export_models.images(1, 128, 128), reparameterize(detector)
    before = predict(folded, batch, DetDataSample)[0].pred_instances
    folded.test_cfg = folded.bbox_head.test_cfg = ConfigDict(
        {**folded.test_cfg, **change, 'nms': {**folded.test_cfg.nms, **change.get('nms', {})}})
    expected = predict(folded, batch, DetDataSample)[0].pred_instances
    assert len(before) != len(expected) or not torch.equal(before.bboxes, expected.bboxes)
    with torch.no_grad():
        boxes, scores, labels = DetectorGraph(folded)(batch.float())
    assert_same_detections(expected, boxes[0], scores[0], labels[0])


@pytest.mark.parametrize('clip', [True, False])
def test_decoding_equals_mmdets_coder(clip):
    coder = DeltaXYWHBBoxCoder((.1, .2, 0., .3), (.1, .1, .2, .2), clip_border=clip)
    corners = torch.rand(50, 2) * 100
    anchors = torch.cat([corners, corners + 1 + torch.rand(50, 2) * 40], 1)
    deltas = torch.randn(50, 4) * 10  # some beyond the limit of the scale
    expected = coder.decode(anchors, deltas, max_shape=(90, 110))
    actual = decode_deltas(anchors, deltas[None], coder, (90, 110))[0]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


def test_raw_graphs_hold_what_the_whole_one_selects_from(detector):
    folded, image = reparameterize(detector), export_models.images(1, 96, 96).float()
    with torch.no_grad():
        boxes, scores, labels = DetectorGraph(folded)(image)
        all_scores, all_boxes = RawDetectorGraph(folded)(image)
        raw = RawDetectorGraph(folded, decode=False)
        deltas = raw(image)[1]
    assert all_scores.shape[:2] == all_boxes.shape[:2]
    assert any(torch.equal(boxes[0, 0], box) for box in all_boxes[0])
    decoded = decode_deltas(raw.priors(image), deltas, folded.bbox_head.bbox_coder, (96, 96))
    torch.testing.assert_close(decoded, all_boxes)


@pytest.mark.parametrize('size', [(2, 64, 96), (1, 50, 70)])
def test_segmentor_graph_equals_mmsegs_prediction(segmentor, size):
    batch = export_models.images(*size)
    expected = torch.cat([s.pred_sem_seg.data for s in predict(segmentor, batch, SegDataSample)])
    folded = reparameterize(segmentor, fuse_conv_bn=True)
    with torch.no_grad():
        labels = SegmentorGraph(folded)(batch.float())
        logits = SegmentorGraph(folded, argmax=False)(batch.float())
    assert 0 < expected.float().mean() < 1  # both classes
    assert labels.shape == expected.shape and labels.dtype == torch.int64
    assert (labels == expected).float().mean() > .999
    assert logits.shape[:2] == (size[0], 2) and logits.shape[2:] < size[2:]


def test_half_keeps_inputs_and_outputs_in_float32(detector):
    image, folded = export_models.images(1, 64, 64).float(), reparameterize(detector)
    with torch.no_grad():
        full = RawDetectorGraph(folded)(image)
        half = RawDetectorGraph(reparameterize(detector), half=True)(image)
    assert half[0].dtype == half[1].dtype == torch.float32
    assert 0 < (full[0] - half[0]).abs().max() < .1


def test_what_no_graph_can_do_is_refused(detector, segmentor):
    segmentor = reparameterize(segmentor)
    segmentor.test_cfg = dict(mode='slide')
    with pytest.raises(ExportError, match='whole images'):
        SegmentorGraph(segmentor)
    with pytest.raises(ExportError, match='is not an SSD head'):
        RawDetectorGraph(segmentor)
    folded = reparameterize(detector)
    folded.test_cfg = ConfigDict(nms=dict(type='soft_nms'))
    with pytest.raises(ExportError, match='soft_nms'):
        DetectorGraph(folded)
