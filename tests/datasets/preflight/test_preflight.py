"""Bad data are reported before training, with the name of the file."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_samples import sample, write_sample
from mmengine.config import Config

from mobileone_mm.datasets.preflight import check_classes, check_data
from mobileone_mm.engine import DatasetError, SeededDataset, make_resumable
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


def test_annotations_with_another_suffix_are_checked(tmp_path):
    cfg = _coco(tmp_path, categories=('cat', 'bird'))
    (tmp_path / 'ann.json').rename(tmp_path / 'ann.JSON')
    cfg.train_dataloader.dataset.dataset.ann_file = 'ann.JSON'
    assert 'dog not found' in _message(cfg)


def test_samples_are_counted_in_what_is_trained_on(tmp_path):
    cfg = _coco(tmp_path)
    cfg.train_cfg = dict(by_epoch=True)
    cfg.train_dataloader.dataset.times = 3
    make_resumable(cfg)
    assert check_data(cfg).train_samples == 3


def test_the_message_says_where_missing_data_come_from(tmp_path):
    cfg = _coco(tmp_path)
    cfg.train_dataloader.dataset.dataset.data_root = str(tmp_path / 'nowhere')
    message = _message(cfg)
    assert f'do not exist: {tmp_path}/nowhere, {tmp_path}/nowhere/ann.json' in message
    assert 'train2017.zip' in message and 'tools/prepare_data.py coco' in message


@pytest.mark.parametrize('change, expected', [
    (dict(num_classes=80), 'model.bbox_head.num_classes=80, but'),
    (dict(categories=('cat', 'cow')), 'dog not found'),
])
def test_classes_that_differ_name_the_annotation_file(tmp_path, change, expected):
    message = _message(_coco(tmp_path, **change))
    assert expected in message and str(tmp_path / 'ann.json') in message


@pytest.mark.parametrize('damage, expected', [
    (lambda p: (p / 'ann.json').write_text('{"images": ['), 'not complete JSON'),
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


def test_training_needs_boxes(tmp_path):
    cfg = _coco(tmp_path)
    path = tmp_path / 'ann.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), annotations=[])))
    assert f'{path}: holds no boxes to train on' in _message(cfg)


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


def _perfect_map(cfg):
    """mmdet's metric for predictions equal to the truth, with labels by the config's names."""
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric
    classes = cfg.train_dataloader.dataset.dataset.metainfo.classes
    truth = sample()
    names = {category['id']: category['name'] for category in truth['categories']}
    options = {key: value for key, value in cfg.val_dataloader.dataset.items() if key != 'type'}
    dataset = CocoDataset(**options, pipeline=[], test_mode=True)
    metric = CocoMetric(ann_file=cfg.val_evaluator.ann_file)
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        number = int(Path(info['img_path']).stem)
        found = [a for a in truth['annotations'] if a['image_id'] == number]
        corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in found)])
        metric.process({}, [dict(
            img_id=info['img_id'], ori_shape=(48, 64), pred_instances=dict(
                bboxes=corners.float(), scores=torch.ones(len(found)),
                labels=torch.tensor([classes.index(names[a['category_id']]) for a in found])))])
    return metric.evaluate(len(dataset))['coco/bbox_mAP']


def _sample_config(tmp_path, change):
    paths = [write_sample(tmp_path, how, f'{name}.json')
             for name, how in (('train', None), ('val', change))]
    train, val = (dict(type='CocoDataset', ann_file=str(path), metainfo=dict(
        classes=('box', 'disc')), data_prefix=dict(img=str(tmp_path / 'img'))) for path in paths)
    return Config(dict(
        default_scope='mmdet', work_dir=str(tmp_path / 'work'), val_dataloader=dict(dataset=val),
        train_dataloader=dict(dataset=dict(type='RepeatDataset', times=3, dataset=train)),
        val_evaluator=dict(type='CocoMetric', ann_file=str(paths[1]))))


def _reverse(content):
    content['categories'] = [dict(id=1, name='disc'), dict(id=2, name='box')]
    for annotation in content['annotations']:
        annotation['category_id'] = 3 - annotation['category_id']


def _from_zero(content):
    for annotation in content['annotations']:
        annotation['id'] -= 1


def _words(content):
    for image in content['images']:
        image['id'] = f'{image["id"]}'


@pytest.mark.parametrize('change, before', [
    (None, 1.), (_reverse, 0.), (_from_zero, .9), (_words, None)])
def test_the_metric_is_right_after_the_check(tmp_path, change, before):
    """With perfect predictions it is 1; on the file as mmdet reads it, it is not."""
    cfg = _sample_config(tmp_path, change)
    if before is not None:
        assert _perfect_map(cfg) <= before
    found = check_data(cfg)
    assert _perfect_map(cfg) == 1
    assert bool(found.notes) is (change is not None) and found.train_samples == 6
    if change is not None:
        copy, = (tmp_path / 'work/annotations').iterdir()  # of val.json alone
        assert cfg.val_dataloader.dataset.ann_file == cfg.val_evaluator.ann_file == str(copy)


def test_files_of_the_same_name_get_separate_copies(tmp_path):
    parts = []
    for folder in ('a', 'b'):
        path = write_sample(tmp_path / folder, _from_zero)
        parts.append(dict(type='CocoDataset', ann_file=str(path), data_prefix=dict(
            img=str(tmp_path / folder / 'img')), metainfo=dict(classes=('box', 'disc'))))
    cfg = Config(dict(default_scope='mmdet', work_dir=str(tmp_path / 'work'), train_dataloader=dict(
        dataset=dict(type='ConcatDataset', datasets=parts))))
    assert check_data(cfg).train_samples == 4
    copies = {part.ann_file for part in cfg.train_dataloader.dataset.datasets}
    assert len(copies) == 2 == len(list((tmp_path / 'work/annotations').iterdir()))


def test_files_without_annotations_are_for_format_only(tmp_path):
    cfg = _sample_config(tmp_path, lambda content: content.pop('annotations'))
    assert 'needs the lists' in _message(cfg)
    cfg.val_evaluator.update(format_only=True, outfile_prefix='results')
    check_data(cfg)


def test_classes_of_all_loaders_and_of_the_checkpoint_agree(tmp_path):
    cfg = _sample_config(tmp_path, None)
    check_classes(cfg, 'val', ['box', 'disc'], 'my.pth')
    check_classes(cfg, 'val', None, 'my.pth')
    with pytest.raises(PreflightError, match=r'my.pth was trained with the classes \(disc, box\)'):
        check_classes(cfg, 'val', ('disc', 'box'), 'my.pth')
    cfg.val_dataloader.dataset.metainfo.classes = ('disc', 'box')
    assert 'val_dataloader has the classes (disc, box), training has (box, disc)' in _message(cfg)
