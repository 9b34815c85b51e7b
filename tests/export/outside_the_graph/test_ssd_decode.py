"""Compare the decoding that apps port with mmdet and PyTorch."""

import export_models
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.export.outside_the_graph.label_map import label_map
from mobileone_mm.export.outside_the_graph.ssd_decode import detections, grid

pytest.importorskip('mmdet', reason='the detection library is not installed')

from mobileone_mm.export.outside_the_graph import decode_settings  # noqa: E402

SIZE = (96, 128)
CHANGES = [dict(), dict(nms_pre=20, max_per_img=50), dict(nms_pre=5000, max_per_img=1000),
           dict(score_thr=.5), dict(min_bbox_size=15), dict(nms=dict(iou_threshold=.1))]


@pytest.fixture(scope='module', params=['bccd', 'coco'])
def detector(request):
    path = export_models.DETECTION.with_name(f'ssdlite_mobileone_s0_{request.param}.py')
    return export_models.build_model(export_models.config(path)).eval()


@pytest.mark.parametrize('change', CHANGES)
def test_detections_are_mmdets(detector, change, monkeypatch):
    cfg = detector.test_cfg.copy()
    cfg.update({**change, 'nms': {**cfg.nms, **change.get('nms', {})}})
    monkeypatch.setattr(detector, 'test_cfg', cfg)
    head = detector.bbox_head
    settings = dict(decode_settings.detector_settings(detector, torch.rand(1, 3, *SIZE)),
                    **decode_settings.thresholds(cfg))
    sizes = [level['size'] for level in settings['levels']]
    cells = [len(level['anchors']) for level in settings['levels']]
    classes = [torch.randn(1, a * head.cls_out_channels, *s) * 2 for a, s in zip(cells, sizes)]
    deltas = [torch.randn(1, a * 4, *s) for a, s in zip(cells, sizes)]
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1., 1.))
    expected = head.predict_by_feat(classes, deltas, batch_img_metas=[meta], cfg=cfg)[0]

    def flat(maps, columns):
        return torch.cat([m.permute(0, 2, 3, 1).reshape(-1, columns) for m in maps])
    scores_in = flat(classes, head.cls_out_channels).softmax(-1)[:, :-1].numpy()
    deltas_in = flat(deltas, 4).numpy()
    boxes, scores, labels = detections(scores_in, deltas_in, settings)
    assert len(boxes) == len(expected) > 5
    np.testing.assert_allclose(boxes, expected.bboxes, atol=1e-4)
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_array_equal(labels, expected.labels)
    if cfg.nms_pre == 5000:  # -1 means no limit too, but mmdet then drops each level's last pair
        everything = detections(scores_in, deltas_in, dict(settings, nms_pre=-1))
        np.testing.assert_array_equal(everything[0], boxes)


def test_the_grid_is_the_generators(detector):
    settings = decode_settings.detector_settings(detector, torch.rand(1, 3, *SIZE))
    expected = torch.cat(detector.bbox_head.prior_generator.grid_priors(
        [tuple(level['size']) for level in settings['levels']], device='cpu'))
    np.testing.assert_allclose(grid(settings['levels']), expected, atol=1e-4)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(33, 50), (7, 9), (1, 1)])
def test_label_map_is_pytorchs(align_corners, size):
    logits = torch.randn(1, 5, 7, 9)
    expected = F.interpolate(logits, size, mode='bilinear', align_corners=align_corners)
    actual = label_map(logits[0].numpy(), size, align_corners)
    assert (actual == expected.argmax(1)[0].numpy()).all()


def test_one_channel_is_a_probability():
    logits = torch.randn(1, 1, 7, 9)
    expected = F.interpolate(logits, (33, 50), mode='bilinear').sigmoid()[0, 0] > .3
    assert (label_map(logits[0].numpy(), (33, 50), threshold=.3) == expected.numpy()).all()
