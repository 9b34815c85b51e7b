"""Bad data are told before training, by the name of the file."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mobileone_mm.datasets.preflight import check_data
from mobileone_mm.engine import DatasetError, SeededDataset
from mobileone_mm.utils.libraries import PreflightError, check_library

pytest.importorskip('mmdet')


def _coco(tmp_path, classes=('cat', 'dog'), categories=('cat', 'dog'), num_classes=2):
    (tmp_path / 'img').mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / 'img' / 'a.jpg'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'ann.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='a.jpg', width=8, height=8)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0)],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(categories)])))
    dataset = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='ann.json',
                   data_prefix=dict(img='img'), metainfo=dict(classes=classes))
    return Config(dict(default_scope='mmdet', model=dict(bbox_head=dict(num_classes=num_classes)),
                       train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset))))


def _message(cfg):
    with pytest.raises(PreflightError) as caught:
        check_data(cfg)
    return str(caught.value)


def test_good_data_pass(tmp_path):
    check_data(_coco(tmp_path))


def test_absent_data_say_where_they_come_from(tmp_path):
    cfg = _coco(tmp_path)
    cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'nowhere')
    message = _message(cfg)
    assert f'do not exist: {tmp_path}/nowhere, {tmp_path}/nowhere/ann.json' in message
    assert 'train2017.zip' in message and 'tools/prepare_data.py coco' in message


@pytest.mark.parametrize('change, expected', [
    (dict(num_classes=80), 'model.bbox_head.num_classes=80, but'),
    (dict(categories=('cat', 'cow')), 'dog not found'),
    (dict(categories=('dog', 'cat')), 'another order'),
])
def test_classes_that_differ_name_the_annotation_file(tmp_path, change, expected):
    message = _message(_coco(tmp_path, **change))
    assert expected in message and str(tmp_path / 'ann.json') in message


@pytest.mark.parametrize('damage, expected', [
    (lambda p: (p / 'ann.json').write_text('{"images": ['), 'not a whole JSON file'),
    (lambda p: (p / 'ann.json').write_text('{"images": []}'), 'needs the lists'),
    (lambda p: (p / 'ann.json').write_text(
        '{"images": [], "annotations": [], "categories": []}'), 'lists no images'),
    (lambda p: (p / 'img' / 'a.jpg').unlink(), '1 of its 1 images are not in'),
    (lambda p: (p / 'img' / 'a.jpg').write_bytes(b''), 'an empty file'),
])
def test_damaged_data_name_the_file(tmp_path, damage, expected):
    cfg = _coco(tmp_path)
    damage(tmp_path)
    message = _message(cfg)
    assert expected in message and str(tmp_path) in message


def test_no_annotations_matter_where_empty_images_are_left_out(tmp_path):
    cfg = _coco(tmp_path)
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), annotations=[])))
    check_data(cfg)
    cfg.train_dataloader.dataset.dataset.filter_cfg = dict(filter_empty_gt=True)
    assert f'{path}: holds no annotations' in _message(cfg)


def test_an_unreadable_image_names_the_file_in_training(tmp_path):
    from mmengine.registry import init_default_scope

    import mobileone_mm.detection  # noqa: F401
    cfg = _coco(tmp_path)
    (tmp_path / 'img' / 'a.jpg').write_bytes(b'no image')
    init_default_scope('mmdet')
    inner = cfg.train_dataloader.dataset.dataset
    inner.pipeline = [dict(type='LoadImageFromFile')]
    with pytest.raises(DatasetError, match='a.jpg'):
        SeededDataset(inner)[0]


def test_an_unknown_scope():
    with pytest.raises(PreflightError, match="'mmpose'"):
        check_library('mmpose')
