"""Compare the apps' NumPy reference with mmdet's head, torch's operators and mmcv's resizing."""

import json

import example_files
import export_models
import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F

reference = example_files.load('reference')
fixtures = example_files.load('make_fixtures')
SIZE = (96, 128)


def test_the_fixtures_are_up_to_date():
    committed = json.loads(fixtures.VECTORS.read_text())
    fresh = json.loads(fixtures.text())
    assert committed.keys() == fresh.keys()
    assert_same(committed, fresh)


def test_a_planted_change_of_the_fixtures_is_found():
    changed = json.loads(fixtures.text())
    changed['decode'][0]['expected'][7] += .01
    with pytest.raises(AssertionError):
        assert_same(changed, json.loads(fixtures.text()))


def assert_same(one, other):
    """Whether two values are equal, numbers within 1e-4: another NumPy may round differently."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other):
            assert_same(*pair)
    else:
        assert one == (pytest.approx(other, abs=1e-4) if isinstance(one, float) else other)


@pytest.mark.parametrize('change', [
    dict(), dict(nms_pre=20, max_per_img=50), dict(score_thr=.5), dict(min_bbox_size=15),
    dict(nms=dict(iou_threshold=.1))])
def test_decode_and_detections_are_mmdets(change, monkeypatch):
    pytest.importorskip('mmdet', reason='the detection library is not installed')
    from mobileone_mm.export.outside_the_graph import decode_settings
    detector = export_models.build_model(export_models.config(export_models.DETECTION)).eval()
    cfg = detector.test_cfg.copy()
    cfg.update({**change, 'nms': {**cfg.nms, **change.get('nms', {})}})
    head = detector.bbox_head
    settings = decode_settings.detector_settings(detector, torch.rand(1, 3, *SIZE))
    sizes = [(level['size'], len(level['anchors'])) for level in settings['levels']]
    classes = [torch.randn(1, a * head.cls_out_channels, *size) * 2 for size, a in sizes]
    deltas = [torch.randn(1, a * 4, *size) for size, a in sizes]
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1., 1.))
    expected = head.predict_by_feat(classes, deltas, batch_img_metas=[meta], cfg=cfg)[0]

    def flat(maps, columns):
        return torch.cat([m.permute(0, 2, 3, 1).reshape(-1, columns) for m in maps])
    scores = flat(classes, head.cls_out_channels).softmax(-1)[:, :-1].numpy()
    boxes, scores, labels = reference.detections(
        scores, reference.decode(flat(deltas, 4).numpy(), settings), settings['levels'],
        decode_settings.thresholds(cfg))
    assert len(boxes) == len(expected) > 5
    np.testing.assert_allclose(boxes, expected.bboxes, atol=1e-4)
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_array_equal(labels, expected.labels)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(33, 50), (7, 9), (1, 1)])
def test_label_map_is_torchs(align_corners, size):
    logits = torch.randn(1, 5, 7, 9)
    expected = F.interpolate(logits, size, mode='bilinear', align_corners=align_corners)
    actual = reference.label_map(logits[0].numpy(), size, align_corners, None)
    assert (actual == expected.argmax(1)[0].numpy()).all()
    one = F.interpolate(logits[:, :1], size, mode='bilinear', align_corners=align_corners)
    actual = reference.label_map(logits[0, :1].numpy(), size, align_corners, .3)
    assert (actual == (one.sigmoid()[0, 0] > .3).numpy()).all()


@pytest.mark.parametrize('size', [(30, 11), (7, 9), (50, 50)])
def test_enlarged_labels_are_torchs(size):
    labels = torch.arange(63).view(7, 9)
    expected = F.interpolate(labels[None, None].float(), size, mode='nearest')[0, 0]
    assert (reference.enlarge(labels.numpy(), size) == expected.numpy()).all()


@pytest.mark.parametrize('keep_ratio, scale', [
    (False, (64, 48)), (True, (2048, 64)), (True, (64, 48)), (True, (100, 100))])
@pytest.mark.parametrize('shape', [(60, 80), (80, 60), (37, 91)])
def test_resizing_is_mmcvs(keep_ratio, scale, shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = (mmcv.imrescale if keep_ratio else mmcv.imresize)(picture, scale)
    info = dict(shape=[1, 3, 48, 64], dynamic=['size'] if keep_ratio else [],
                resize=dict(size=list(scale), keep_ratio=keep_ratio, interpolation='bilinear'),
                input=dict(channels='BGR', layout='NCHW', mean=[0.] * 3, std=[1.] * 3))
    actual = reference.preprocess(picture, info)
    np.testing.assert_array_equal(actual[0].transpose(1, 2, 0), expected)
    info['input'].update(layout='CHW', channels='RGB', mean=[1., 2., 3.], std=[4., 5., 6.])
    normalized = mmcv.imnormalize(expected, np.array([1, 2, 3.]), np.array([4, 5, 6.]), to_rgb=True)
    np.testing.assert_allclose(
        reference.preprocess(picture, info).transpose(1, 2, 0), normalized, atol=1e-4)


def test_another_format_is_refused(tmp_path):
    (tmp_path / 'x.json').write_text('{"format": 3}')
    with pytest.raises(ValueError, match='has format 3, this reads format 2'):
        reference.read(tmp_path / 'x.onnx')
