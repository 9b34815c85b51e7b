import json

import pytest

from mobileone_mm.datasets.coco_subset import SubsetError, write_easy_subset


def _write(path, boxes_of_images, iscrowd=0):
    images = [dict(id=i, width=640, height=320) for i in range(len(boxes_of_images))]
    annotations = [
        dict(id=10 * i + j, image_id=i, bbox=box, iscrowd=iscrowd, category_id=7)
        for i, boxes in enumerate(boxes_of_images) for j, box in enumerate(boxes)]
    path.write_text(json.dumps(
        dict(images=images[::-1], annotations=annotations, categories=[dict(id=7, name='x')])))


def test_subset_has_first_images_of_few_large_objects(tmp_path):
    big = [0, 0, 64, 32]  # 32x32 pixels once 640x320 is 320x320
    _write(tmp_path / 'all.json', [
        [], [big], [big, [0, 0, 63, 32]], [[0, 0, 64, 31]], [big] * 6, [big] * 5, [big]])
    write_easy_subset(tmp_path / 'all.json', tmp_path / 'new' / 'few.json', num_images=2)
    subset = json.loads((tmp_path / 'new' / 'few.json').read_text())
    assert [image['id'] for image in subset['images']] == [1, 5]
    assert sorted(item['id'] for item in subset['annotations']) == [10, 50, 51, 52, 53, 54]
    assert subset['categories'] == [dict(id=7, name='x')]


@pytest.mark.parametrize('iscrowd, num_images', [(1, 1), (0, 2)])
def test_too_few_images(tmp_path, iscrowd, num_images):
    _write(tmp_path / 'all.json', [[[0, 0, 300, 300]]], iscrowd)
    with pytest.raises(SubsetError, match='are needed'):
        write_easy_subset(tmp_path / 'all.json', tmp_path / 'few.json', num_images)
    assert not (tmp_path / 'few.json').exists()


def test_missing_source(tmp_path):
    with pytest.raises(SubsetError, match='does not exist'):
        write_easy_subset(tmp_path / 'none.json', tmp_path / 'few.json')
