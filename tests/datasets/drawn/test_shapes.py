"""The data set on disk: read by the stock loaders, repeatable, atomic, and careful with files."""
import json

import numpy as np
import pytest
from PIL import Image

from mobileone_mm.datasets.drawn import shapes
from mobileone_mm.datasets.drawn.layouts import LAYOUTS, voc_palette
from mobileone_mm.datasets.drawn.scenes import CLASSES

NUM_TRAIN, NUM_VAL = 12, 5


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes')
    return {name: shapes.make_shapes(out, name, NUM_TRAIN, NUM_VAL, seed=1) for name in LAYOUTS}


def snapshot(root):
    return {name: (root / name).read_bytes() for name in shapes._files(root)}


def test_coco_layout_is_read_by_mmdet(roots):
    from mmcv.transforms import LoadImageFromFile
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations
    from pycocotools.coco import COCO

    import mobileone_mm  # noqa: F401  (the operators that mmdet asks for)

    for split, number in (('train', NUM_TRAIN), ('val', NUM_VAL)):
        ann_file = f'annotations/instances_{split}2017.json'
        coco = COCO(str(roots['coco'] / ann_file))
        data = CocoDataset(
            data_root=str(roots['coco']), ann_file=ann_file,
            data_prefix=dict(img=f'{split}2017/'), metainfo=dict(classes=CLASSES),
            pipeline=[LoadImageFromFile(), LoadAnnotations(with_bbox=True, with_mask=True)])
        assert len(data) == number
        for info in data:
            assert np.asarray(Image.open(info['img_path'])).shape[:2] == (
                info['height'], info['width'])
            entries = coco.loadAnns(coco.getAnnIds(info['img_id']))
            assert len(entries) == len(info['gt_bboxes'])
            boxes = info['gt_masks'].get_bboxes('hbox').tensor
            assert (boxes - info['gt_bboxes'].tensor).abs().max() <= 1
            for entry, mask in zip(entries, info['gt_masks']):
                assert np.array_equal(coco.annToMask(entry), mask)
                assert entry['area'] == mask.sum()


def test_ground_truth_scores_one_by_mmdets_own_metric(roots):
    import torch
    from mmdet.evaluation import CocoMetric
    from pycocotools.coco import COCO

    import mobileone_mm  # noqa: F401

    ann_file = str(roots['coco'] / 'annotations/instances_val2017.json')
    metric = CocoMetric(ann_file=ann_file, metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES)
    coco = COCO(ann_file)
    for image in coco.loadImgs(coco.getImgIds()):
        entries = coco.loadAnns(coco.getAnnIds(image['id'], iscrowd=False))
        boxes = torch.tensor([entry['bbox'] for entry in entries])
        boxes[:, 2:] += boxes[:, :2]
        prediction = dict(bboxes=boxes, scores=torch.ones(len(entries)),
                          labels=torch.tensor([entry['category_id'] - 1 for entry in entries]))
        metric.process({}, [dict(pred_instances=prediction, img_id=image['id'],
                                 ori_shape=(image['height'], image['width']))])
    assert metric.evaluate(size=NUM_VAL)['coco/bbox_mAP'] == pytest.approx(1.)


def _label_maps(data):
    return [np.asarray(info['gt_seg_map']) for info in data]


def _segmentation(roots, name, **kwargs):
    from mmseg.datasets import ADE20KDataset, PascalVOCDataset
    from mmseg.datasets.transforms import LoadAnnotations

    import mobileone_mm  # noqa: F401

    kind = dict(voc=PascalVOCDataset, ade=ADE20KDataset)[name]
    pipeline = [LoadAnnotations(reduce_zero_label=True if name == 'ade' else None)]
    return kind(data_root=str(roots[name]), pipeline=pipeline, **kwargs)


def test_voc_layout_is_read_by_mmseg(roots):
    counts = dict(train=NUM_TRAIN // 2, aug=NUM_TRAIN // 2, val=NUM_VAL,
                  trainval=NUM_TRAIN // 2 + NUM_VAL)
    for part, number in counts.items():
        folder = 'SegmentationClassAug' if part == 'aug' else 'SegmentationClass'
        data = _segmentation(roots, 'voc', ann_file=f'ImageSets/Segmentation/{part}.txt',
                             data_prefix=dict(img_path='JPEGImages', seg_map_path=folder))
        assert len(data) == number
        values = np.unique(np.concatenate([labels.ravel() for labels in _label_maps(data)]))
        assert {0, 1, 255} <= set(values) <= {*range(len(CLASSES) + 1), 255}
        for info in data:
            assert Image.open(info['img_path']).size == info['gt_seg_map'].shape[::-1]


def test_voc_label_maps_carry_the_palette_of_mmseg(roots):
    from mmseg.datasets import PascalVOCDataset
    path = next((roots['voc'] / 'SegmentationClass').glob('*.png'))
    image = Image.open(path)
    assert image.mode == 'P'
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert palette[:21].tolist() == PascalVOCDataset.METAINFO['palette']
    assert np.array_equal(palette[:256], voc_palette()[:len(palette)])


def test_ade_layout_is_read_by_mmseg(roots):
    for split, number in (('training', NUM_TRAIN), ('validation', NUM_VAL)):
        data = _segmentation(
            roots, 'ade',
            data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'))
        assert len(data) == number and data.metainfo['reduce_zero_label']
        values = set(np.unique(np.concatenate([m.ravel() for m in _label_maps(data)])))
        assert 255 in values and values - {255} <= set(range(12)) and len(values) > 6


def test_the_same_arguments_give_the_same_bytes_and_a_second_call_writes_nothing(roots, tmp_path):
    for name, root in roots.items():
        assert snapshot(shapes.make_shapes(tmp_path, name, NUM_TRAIN, NUM_VAL, seed=1)) == (
            snapshot(root))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    for name in roots:
        shapes.make_shapes(tmp_path, name, NUM_TRAIN, NUM_VAL, seed=1)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}


def test_more_images_leave_the_earlier_ones_unchanged_and_another_seed_does_not(tmp_path):
    few = snapshot(shapes.make_shapes(tmp_path / 'few', 'coco', 2, 1))
    many = snapshot(shapes.make_shapes(tmp_path / 'many', 'coco', 4, 1))
    other = snapshot(shapes.make_shapes(tmp_path / 'other', 'coco', 2, 1, seed=1))
    first = 'train2017/000000000001.jpg'
    assert few[first] == many[first] != other[first]


@pytest.mark.parametrize('damage', ['truncate', 'delete', 'manifest'])
def test_a_damaged_data_set_is_redrawn(tmp_path, damage):
    root = shapes.make_shapes(tmp_path, 'coco', 2, 1)
    whole = snapshot(root)
    victim = root / 'val2017/000000000003.jpg'
    if damage == 'truncate':
        victim.write_bytes(victim.read_bytes()[:100])
    elif damage == 'delete':
        victim.unlink()
    else:
        manifest = json.loads((root / shapes.MANIFEST).read_text())
        manifest['spec']['version'] = -1
        (root / shapes.MANIFEST).write_text(json.dumps(manifest))
    shapes.make_shapes(tmp_path, 'coco', 2, 1)
    assert snapshot(root) == whole


def test_an_interrupted_call_leaves_no_data_set_and_the_next_one_heals(tmp_path, monkeypatch):
    whole = snapshot(shapes.make_shapes(tmp_path / 'whole', 'voc', 2, 2))
    drawn = []

    def draw_then_die(seed):
        drawn.append(seed)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return shapes_draw(seed)

    shapes_draw = shapes.draw_scene
    monkeypatch.setattr(shapes, 'draw_scene', draw_then_die)
    with pytest.raises(KeyboardInterrupt):
        shapes.make_shapes(tmp_path / 'out', 'voc', 2, 2)
    place = tmp_path / 'out/VOCdevkit'
    assert not (place / 'VOC2012').exists() and list(place.iterdir())
    monkeypatch.undo()
    root = shapes.make_shapes(tmp_path / 'out', 'voc', 2, 2)
    assert snapshot(root) == whole and list(place.iterdir()) == [root]


def test_files_of_others_are_never_replaced(tmp_path):
    photo = tmp_path / 'coco/train2017/photo.jpg'
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b'precious')
    with pytest.raises(FileExistsError, match='this generator did not write.*photo.jpg'):
        shapes.make_shapes(tmp_path, 'coco', 2, 1)
    assert photo.read_bytes() == b'precious'


@pytest.mark.parametrize('change, message', [
    (dict(layout='yolo'), "layout must be one of coco, voc, ade, imagenet, got 'yolo'"),
    (dict(num_train=1), 'num_train must be an integer of at least 2, got 1'),
    (dict(num_val=0), 'num_val must be an integer of at least 1, got 0'),
    (dict(num_val=2.5), 'num_val must be an integer of at least 1, got 2.5'),
    (dict(seed=-1), 'seed must be an integer of at least 0, got -1'),
])
def test_bad_arguments_are_named_before_anything_is_written(tmp_path, change, message):
    arguments = dict(layout='coco', num_train=2, num_val=1, seed=0)
    with pytest.raises(ValueError, match=message):
        shapes.make_shapes(tmp_path, **{**arguments, **change})
    assert not list(tmp_path.iterdir())


def test_tool_writes_every_layout_and_reports_errors_without_a_traceback(
        tmp_path, run_tool, capsys):
    arguments = '--out', tmp_path, '--num-val', 1, '--layout', 'all', '--num-train'
    assert run_tool('make_shapes', *arguments, 2) == 0
    printed = capsys.readouterr().out
    assert all(str(tmp_path / layout.folder) in printed for layout in LAYOUTS.values())
    assert all((tmp_path / layout.folder).is_dir() for layout in LAYOUTS.values())
    assert run_tool('make_shapes', *arguments, 0) == 1
    assert 'error: num_train must be' in capsys.readouterr().err
