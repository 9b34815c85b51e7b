"""tools/test.py --report: counts equal manual ones and mmseg's, and pictures are written."""

import json

import cv2
import numpy as np
import pytest
import torch

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mmengine.config import Config  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from mmseg.evaluation import IoUMetric  # noqa: E402
from tiny_detector import write_config  # noqa: E402

from mobileone_mm.commands import train_test as cli  # noqa: E402
from mobileone_mm.commands.test_options import draw_report  # noqa: E402
from mobileone_mm.commands.test_report.detection import DetectionReport, match  # noqa: E402
from mobileone_mm.commands.test_report.segmentation import mean_iou  # noqa: E402
from mobileone_mm.folding.models import build_model  # noqa: E402
from mobileone_mm.utils.libraries import PreflightError  # noqa: E402

BOX, FAR, CROWD = [0., 0, 10, 10], [50., 50, 60, 60], [100., 100, 200, 200]


def boxes(*items):
    return np.array(items, np.float32).reshape(-1, 4)


@pytest.mark.parametrize('found, labels, scores, expected, wrong', [
    ([BOX], [0], [.9], {(0, 0): 1}, 0),
    ([BOX], [1], [.9], {(0, 1): 1}, 1),
    ([BOX], [0], [.1], {(0, 2): 1}, 1),  # below the threshold
    ([FAR], [1], [.9], {(0, 2): 1, (2, 1): 1}, 2),
    ([BOX, BOX], [0, 0], [.9, .8], {(0, 0): 1, (2, 0): 1}, 1),  # twice
    ([[0, 0, 10, 8], BOX], [1, 0], [.9, .8], {(0, 0): 1, (2, 1): 1}, 1),  # the closer one
    ([BOX, [110, 110, 120, 120]], [0, 0], [.9, .9], {(0, 0): 1}, 0),  # one of the crowd
    ([], [], [], {(0, 2): 1}, 1),
])
def test_boxes_are_matched(found, labels, scores, expected, wrong):
    counts = np.zeros((3, 3), int)
    truth = dict(bboxes=boxes(BOX), labels=np.array([0]), crowds=boxes(CROWD))
    result = dict(bboxes=boxes(*found), labels=np.array(labels, int), scores=np.array(scores))
    assert match(result, truth, counts, .3, .5) == wrong
    assert {tuple(key): counts[tuple(key)] for key in np.argwhere(counts).tolist()} == expected


def test_mean_iou_is_that_of_mmseg():
    truth, predicted = torch.randint(3, (2, 20, 20))
    predicted = torch.where(torch.rand(20, 20) > .4, truth, predicted)
    areas = IoUMetric.intersect_and_union(predicted, truth, 4, 255)  # a class that is not there
    counts = np.bincount(4 * truth.flatten().numpy() + predicted.flatten().numpy(), minlength=16)
    assert mean_iou(counts.reshape(4, 4)) == pytest.approx(
        float((areas[0] / areas[1])[:3].mean()))
    assert mean_iou(np.zeros((2, 2))) == 1


def test_a_detectors_pictures(tmp_path):
    categories = [dict(id=7, name='b'), dict(id=3, name='a')]  # in another order than the classes
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / 'val.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f'{i}.png', width=64, height=64) for i in range(3)],
        categories=categories, annotations=[
            dict(id=i + 1, image_id=i, category_id=3, bbox=[4, 4, 20, 20], area=400, iscrowd=0)
            for i in range(3)])))
    metric = DetectionReport(str(tmp_path / 'val.json'), str(tmp_path / 'out'), worst=2)
    metric.dataset_meta = dict(classes=('a', 'b'))
    for i, label in enumerate([0, 1, 0]):  # the second is wrong
        found = InstanceData(bboxes=torch.tensor([[4., 4, 24, 24]]), scores=torch.tensor([.9]),
                             labels=torch.tensor([label]))
        metric.process(None, [dict(img_id=i, img_path=str(tmp_path / f'{i}.png'),
                                   pred_instances=found)])
    assert metric.evaluate(3) == {}
    worst = json.loads((tmp_path / 'out/worst.json').read_text())
    assert worst == [dict(image=str(tmp_path / '1.png'), wrong_boxes=1),
                     dict(image=str(tmp_path / '0.png'), wrong_boxes=0)]
    for name in ('confusion_matrix', 'pr_curves', 'worst'):
        assert cv2.imread(str(tmp_path / f'out/{name}.png')).std() > 1


def test_a_detector_is_reported(tmp_path):
    config = write_config(tmp_path, num_train=2)
    torch.save(build_model(Config.fromfile(config)).state_dict(), tmp_path / 'model.pth')
    metrics = cli.test([
        str(config), str(tmp_path / 'model.pth'), '--work-dir', str(tmp_path / 'work'), '--report',
        str(tmp_path / 'report'), '--cfg-options', 'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'test_dataloader.dataset.pipeline.1.scale=(64,64)'])
    assert 'coco/circle_precision' in metrics  # the AP of each class
    assert {'confusion_matrix.png', 'worst.png', 'worst.json'} <= {
        path.name for path in (tmp_path / 'report').iterdir()}


@pytest.mark.parametrize('change, expected', [
    (dict(default_scope='mmpretrain'), 'is for detectors and segmentors'),
    (dict(test_evaluator=[dict(type='VOCMetric')]), 'needs a test_evaluator of type CocoMetric'),
])
def test_what_cannot_be_reported(tmp_path, change, expected):
    cfg = Config(dict(default_scope='mmdet', test_evaluator=dict(type='CocoMetric', ann_file='x')))
    cfg.update(change)
    with pytest.raises(PreflightError, match=expected):
        draw_report(cfg, str(tmp_path / 'out'), 16)
