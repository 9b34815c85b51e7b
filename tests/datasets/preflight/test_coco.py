"""One data set's annotations are checked with the options that mmdet reads them with."""

import hashlib
import json
import os

import pytest
from coco_samples import write_image, write_sample

from mobileone_mm.datasets.coco_files import read_coco
from mobileone_mm.datasets.preflight.coco import check_coco, require_images
from mobileone_mm.datasets.preflight.source import Source
from mobileone_mm.utils.errors import PreflightError


class CocoDataset:
    """Stands for mmdet's."""

    def __init__(self, test_mode=False, filter_cfg=None):
        raise NotImplementedError


@pytest.fixture
def check(tmp_path):
    """A function that writes a changed sample and checks it with some options of the data set."""
    def run(change=None, loader='train', labeled=True, folder=tmp_path / 'out', name='ann.json',
            **options):
        run.cfg = dict(dict(type=CocoDataset, data_root=str(tmp_path), ann_file=name,
                            data_prefix=dict(img='img'), metainfo=dict(classes=('box', 'disc'))),
                       **options)
        run.path = write_sample(tmp_path, change, name)
        return check_coco(Source(run.cfg, None), loader, labeled, folder)
    return run


@pytest.mark.parametrize('loader', ['train', 'val'])
def test_good_annotations_are_used_as_they_are(check, tmp_path, loader):
    assert check(loader=loader) == (tmp_path / 'ann.json', [], 2)
    assert check(loader=loader, metainfo=None).notes == []  # the classes are the file's
    assert not (tmp_path / 'out').exists()


def test_a_data_set_without_annotations_is_a_mistake_of_the_caller(check):
    with pytest.raises(ValueError, match='^the data set has no annotation file$'):
        check(ann_file=None)


def _flat(content):
    content['annotations'][0]['bbox'][2] = 0


def test_boxes_that_nothing_matches_are_removed_before_a_metric(check):
    found = check(_flat)
    assert found.ann_file == check.path and found.images == 2
    note, = found.notes
    assert note == f'{check.path}: training leaves out 1 of 4 boxes (1 outside their image)'
    found = check(_flat, 'val')
    assert len(found.notes) == 1 and '1 boxes without width or height (left out)' in found.notes[0]
    assert len(json.loads(found.ann_file.read_text())['annotations']) == 3


def test_the_copys_name_says_what_it_is_of(check, tmp_path):
    original = write_sample(tmp_path, _flat).read_bytes()
    found = check(_flat, 'test')
    mark = hashlib.sha256(str(check.path).encode()).hexdigest()[:8]
    assert found.ann_file == tmp_path / f'out/ann.test.{mark}.repaired.json'
    assert found.notes == [f'{check.path}: 1 boxes without width or height (left out): repaired in '
                           f'the copy {found.ann_file}, in use now']
    assert check.cfg['ann_file'] == str(found.ann_file) and check.path.read_bytes() == original


def test_a_repair_needs_a_folder(check):
    with pytest.raises(PreflightError, match='ann.json: 1 boxes without width or height .left out.:'
                                             ' to be repaired in a copy, .* needs a work_dir$'):
        check(_flat, 'val', folder=None)


@pytest.mark.skipif(os.name == 'nt', reason='names are text there')
def test_a_folder_whose_name_is_no_text(check, tmp_path):
    strange = tmp_path / os.fsdecode(b'\xff')
    write_sample(strange, _flat)
    assert check(_flat, 'val', data_root=str(strange)).ann_file.is_file()


def test_notes_of_the_file_come_first(check):
    def other(content):
        content['categories'].append(dict(id=3, name='other'))
        content['annotations'][3]['category_id'] = 3
        _flat(content)

    first, second = check(other).notes
    assert 'boxes of categories that are not classes' in first and 'training leaves out' in second
    first, second = check(other, 'val').notes
    assert 'boxes of categories that are not classes' in first and 'repaired in the copy' in second


def _second_without_boxes(content):
    del content['annotations'][2:]


@pytest.mark.parametrize('options, images', [
    (dict(), 2), (dict(filter_cfg=dict(filter_empty_gt=True)), 1),
    (dict(filter_cfg=dict(filter_empty_gt=True), test_mode=True), 2)])
def test_images_are_filtered_as_in_mmdet(check, options, images):
    assert check(_second_without_boxes, **options).images == images


def test_labels_are_needed_for_training_and_metrics(check):
    for loader, purpose in (('train', 'train on'), ('val', 'evaluate')):
        with pytest.raises(PreflightError, match=f'ann.json: holds no boxes to {purpose}'):
            check(lambda content: content['annotations'].clear(), loader)
    with pytest.raises(PreflightError, match='needs the lists'):
        check(lambda content: content.pop('annotations'), 'test')
    assert check(lambda content: content.pop('annotations'), 'test', labeled=False).images == 2


@pytest.mark.parametrize('ignores', [False, True])
def test_the_orientation_counts_unless_the_pipeline_ignores_it(check, tmp_path, ignores):
    step = dict(color_type='color_ignore_orientation' if ignores else 'color')
    check()
    for name in ('1.jpg', '2.jpg'):
        write_image(tmp_path / 'img' / name, orientation=6)
    path = tmp_path / 'ann.json'
    cfg = dict(check.cfg, pipeline=[step])
    found = check_coco(Source(cfg, None), 'train', True, tmp_path / 'out')
    size = json.loads(found.ann_file.read_text())['images'][0]
    assert (size['width'], size['height']) == ((64, 48) if ignores else (48, 64))
    assert (found.ann_file == path) is ignores


def test_images_are_looked_for_if_their_folder_is_known(check, tmp_path):
    def absent(content):
        content['images'][1]['file_name'] = 'absent.jpg'

    with pytest.raises(PreflightError, match='1 of its 2 images are not in .*, for example absent'):
        check(absent)
    assert check(absent, data_prefix={}).images == 2


def test_images_in_folders(tmp_path):
    def change(content):
        for image, name in zip(content['images'], names):
            image['file_name'] = name

    names = ['a/b/1.jpg', '2.jpg']
    file = read_coco(write_sample(tmp_path, change))
    with pytest.raises(PreflightError, match='ann.json: 1 of its 2 images .* example a/b/1.jpg'):
        require_images(file, tmp_path / 'img')
    (tmp_path / 'img/a/b/1.jpg').mkdir(parents=True)
    with pytest.raises(PreflightError, match='1 of its 2 images are not in'):
        require_images(file, tmp_path / 'img')
    (tmp_path / 'img/a/b/1.jpg').rmdir()
    write_image(tmp_path / 'img/a/b/1.jpg')
    require_images(file, tmp_path / 'img')
    (tmp_path / 'img/2.jpg').write_bytes(b'')
    with pytest.raises(PreflightError, match=r'img/2.jpg: an empty file \(1 such\)'):
        require_images(file, tmp_path / 'img')
