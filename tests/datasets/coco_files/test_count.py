"""Counts equal those of mmdet's own data set."""

import json

import numpy as np
import pytest
from coco_samples import write_sample

from mobileone_mm.datasets.coco_files import count, read_coco
from mobileone_mm.utils.libraries import PreflightError

pytest.importorskip('mmdet')


def hard_file(tmp_path):
    """500 boxes: in and out of the images, tiny, empty, crowds, ignored; images too small."""
    rng = np.random.default_rng(0)

    def change(content):
        content['images'] = [dict(id=i, file_name='1.jpg', width=int(w), height=int(h))
                             for i, (w, h) in enumerate(rng.integers(20, 80, (60, 2)), start=7)]
        content['categories'].append(dict(id=3, name='other'))
        content['annotations'] = [dict(
            id=i, image_id=int(rng.integers(7, 50)), category_id=int(rng.integers(1, 4)),
            bbox=[float(x), float(y), float(w), float(h)], area=float(w * h),
            iscrowd=int(rng.random() < .1), ignore=int(rng.random() < .1))
            for i, (x, y, w, h) in enumerate(
                rng.uniform([-20, -20, -1, -1], [60, 60, 30, 30], (500, 4)), start=1)]
        content['annotations'][3]['bbox'][1] = float('nan')
    return write_sample(tmp_path, change)


@pytest.mark.parametrize('filter_cfg', [
    None, dict(filter_empty_gt=True, min_size=32), dict(filter_empty_gt=False, min_size=40)])
def test_counts_equal_mmdets(tmp_path, filter_cfg):
    from mmdet.datasets import CocoDataset
    file = read_coco(hard_file(tmp_path))
    file.write(tmp_path / 'copy.json')
    counts = count(file, ('box', 'disc'), filter_cfg)
    dataset = CocoDataset(
        ann_file=str(tmp_path / 'copy.json'), metainfo=dict(classes=('box', 'disc')),
        data_prefix=dict(img=''), pipeline=[], filter_cfg=filter_cfg)
    used = [instance['bbox_label'] for i in range(len(dataset))
            for instance in dataset.get_data_info(i)['instances'] if not instance['ignore_flag']]
    assert counts.images == len(dataset) and counts.total == len(used) > 20
    assert counts.boxes == dict(box=used.count(0), disc=used.count(1))
    assert counts.total + sum(counts.boxes_out.values()) == len(file.content['annotations'])
    assert counts.images + sum(counts.images_out.values()) == counts.listed == 60


@pytest.mark.parametrize('box, why', [
    ([.1, .2, .3, .4], 'under 1 pixel wide or high). Its numbers are fractions of the image'),
    ([100, 100, 9, 9], '4 outside their image'), ([1, 1, 0, 9], '4 outside their image'),
    ([0, 0, 0, 0], '4 outside their image)$'),
])
def test_nothing_left_is_refused(tmp_path, box, why):
    def change(content):
        for annotation in content['annotations']:
            annotation['bbox'] = box
    path = write_sample(tmp_path, change)
    counts = count(read_coco(path), ('box', 'disc'))
    with pytest.raises(PreflightError) as caught:
        counts.require(path)
    assert f'{path}: holds no boxes to train on' in str(caught.value)
    assert why in f'{caught.value}$'


def test_what_is_left_out_is_reported(tmp_path):
    def change(content):
        content['annotations'] = content['annotations'][:2]
        content['annotations'][1]['iscrowd'] = 1
    file = read_coco(write_sample(tmp_path, change))
    counts = count(file, ('box', 'disc'), dict(filter_empty_gt=True))
    assert counts.left_out() == (
        '1 of 2 images (1 without boxes) and 1 of 2 boxes (1 marked iscrowd)')
    counts.require('file')  # one is left


def test_reading_keeps_json_numbers(tmp_path):
    path = write_sample(tmp_path)
    assert json.loads(path.read_text()) == read_coco(path).content
