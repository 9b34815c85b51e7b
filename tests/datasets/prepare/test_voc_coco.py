"""Label maps of VOC's classes from COCO's instances equal pycocotools' masks."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('pycocotools')
from pycocotools.coco import COCO  # noqa: E402

from mobileone_mm.datasets.prepare import Archive, DatasetSpec, prepare  # noqa: E402
from mobileone_mm.datasets.prepare.voc_coco import (  # noqa: E402
    CATEGORIES,
    MASKS,
    MIN_PIXELS,
    convert_coco,
    wrong_masks,
)

VOC_CLASSES = (
    'airplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'dining table', 'dog', 'horse', 'motorcycle', 'person', 'potted plant', 'sheep', 'couch',
    'train', 'tv')


def square(i, image, category, x, y, side, **kwargs):
    polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
    return dict(id=i, image_id=image, category_id=category, iscrowd=0, area=side * side,
                bbox=[x, y, side, side], segmentation=[polygon], **kwargs)


@pytest.fixture
def root(tmp_path):
    """Three images: overlapping instances and a class that VOC lacks; too few pixels; no class."""
    images = [dict(id=i, file_name=f'{i:012}.jpg', height=64, width=80) for i in (1, 2, 3)]
    annotations = [
        square(1, 1, 1, 0, 0, 40), square(2, 1, 18, 20, 20, 40), square(3, 1, 8, 0, 0, 60),
        square(4, 2, 1, 0, 0, 10), square(5, 3, 8, 0, 0, 60)]
    categories = [dict(id=i, name=str(i)) for i in range(1, 91)]
    (tmp_path / 'coco/annotations').mkdir(parents=True)
    (tmp_path / 'coco/annotations/instances_train2017.json').write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return tmp_path


def test_the_first_instance_wins_and_small_ones_are_left_out(root):
    convert_coco(root)
    assert (root / MASKS).with_suffix('.txt').read_text() == f'{1:012}\n'
    labels = np.asarray(Image.open(root / MASKS / f'{1:012}.png'))
    assert labels.shape == (64, 80) and set(np.unique(labels)) == {0, 12, 15}
    assert (labels[:40, :40] == 15).all() and labels[50, 50] == 12 and labels[5, 70] == 0
    assert MIN_PIXELS > 100


def test_an_interrupted_conversion_continues(root, monkeypatch):
    spec = DatasetSpec((Archive('x.zip', 'http://x', 'coco', 'coco', {}), ), convert=convert_coco,
                       wrong=wrong_masks)
    assert 'train2017.txt is missing' in wrong_masks(root)
    lines = []
    assert not prepare('x', root, check_only=True, say=lines.append, spec=spec)
    assert 'NOT CONVERTED' in lines[-1]
    assert prepare('x', root, say=lines.append, spec=spec) and 'ready' in lines[-1]
    path = root / MASKS / f'{1:012}.png'
    first = path.read_bytes()
    path.write_bytes(b'kept')
    (root / MASKS).with_suffix('.txt').unlink()
    assert prepare('x', root, say=lines.append, spec=spec) and path.read_bytes() == b'kept'
    path.unlink()
    assert '0 label maps' in wrong_masks(root)
    assert prepare('x', root, say=lines.append, spec=spec) and path.read_bytes() == first


@pytest.mark.parametrize('content', ['[]', '{', '{"images": [], "categories": []}'])
def test_another_file_is_refused(root, content):
    (root / 'coco/annotations/instances_train2017.json').write_text(content)
    with pytest.raises(ValueError, match='instances_train2017.json'):
        convert_coco(root)


def test_palette_is_pascals(root):
    mmseg = pytest.importorskip('mmseg.datasets')
    convert_coco(root)
    palette = Image.open(root / MASKS / f'{1:012}.png').getpalette()
    colors = mmseg.PascalVOCDataset.METAINFO['palette']
    assert palette[:63] == [value for color in colors for value in color]


def test_real_instances(shared_data, tmp_path):
    """Class by class, as pycocotools decodes each instance, with the names in COCO's file."""
    source = shared_data('coco')
    (tmp_path / 'coco').symlink_to(tmp_path / 'real')
    (tmp_path / 'real').mkdir()
    (tmp_path / 'real/annotations').symlink_to(source / 'annotations')
    convert_coco(tmp_path)
    coco = COCO(str(source / 'annotations/instances_train2017.json'))
    assert tuple(coco.cats[i]['name'] for i in CATEGORIES) == VOC_CLASSES
    names = (tmp_path / MASKS).with_suffix('.txt').read_text().split()
    assert len(names) > 20
    kept = set()
    for image_id, image in coco.imgs.items():
        taken = np.zeros((image['height'], image['width']), bool)
        truth = np.zeros_like(taken, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            name = coco.cats[annotation['category_id']]['name']
            if name in VOC_CLASSES:
                instance = coco.annToMask(annotation).astype(bool)
                truth[instance & ~taken] = 1 + VOC_CLASSES.index(name)
                taken |= instance
        name = image['file_name'][:-4]
        if (truth > 0).sum() >= 1000:
            kept.add(name)
            assert np.array_equal(np.asarray(Image.open(tmp_path / MASKS / f'{name}.png')), truth)
    assert kept == set(names)
