"""Boxes on pictures that EXIF rotates are moved to where OpenCV shows their content."""

import cv2
import numpy as np
import pytest
from coco_samples import write_image, write_sample

from mobileone_mm.datasets.coco_files import image_sizes, read_coco
from mobileone_mm.datasets.coco_files.pictures import turn_box
from mobileone_mm.utils.libraries import PreflightError

BAR = [4, 4, 32, 8]  # what write_image draws, as stored


@pytest.mark.parametrize('orientation', range(1, 9))
def test_rotated_boxes_enclose_what_opencv_shows(tmp_path, orientation):
    write_image(tmp_path / 'a.jpg', orientation=orientation)
    shown = cv2.imread(str(tmp_path / 'a.jpg'))[..., 0] > 127
    rows, columns = np.nonzero(shown.any(1))[0], np.nonzero(shown.any(0))[0]
    expected = [columns[0], rows[0], len(columns), len(rows)]
    assert np.abs(np.subtract(turn_box(BAR, (64, 48), orientation), expected)).max() <= 1


def turned(folder, orientation, boxes, **image):
    """A file with one image in that orientation."""
    def change(content):
        content['images'][0].update(image)
        for annotation, box in zip(content['annotations'], boxes):
            annotation.update(bbox=box, area=box[2] * box[3])
    path = write_sample(folder, change, num_images=1)
    write_image(folder / 'img/1.jpg', orientation=orientation)
    return path


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_boxes_of_the_stored_picture(tmp_path, orientation):
    file = read_coco(turned(tmp_path, orientation, [BAR, BAR]), tmp_path / 'img')
    assert file.content['annotations'][0]['bbox'] == turn_box(BAR, (64, 48), orientation)
    assert (file.content['images'][0]['width'], file.content['images'][0]['height']) == (48, 64)
    assert any('boxes rotated with it' in repair for repair in file.repairs)


def test_boxes_of_the_upright_picture_with_the_stored_size(tmp_path):
    below = [4, 50, 8, 10]  # beyond the stored height of 48
    file = read_coco(turned(tmp_path, 6, [below, BAR]), tmp_path / 'img')
    assert [a['bbox'] for a in file.content['annotations']] == [below, BAR]
    assert file.content['images'][0]['height'] == 64


def test_the_upright_size_is_right(tmp_path):
    file = read_coco(turned(tmp_path, 6, [BAR, BAR], width=48, height=64), tmp_path / 'img')
    assert file.content['annotations'][0]['bbox'] == BAR and not file.repairs


def test_the_loader_may_ignore_exif(tmp_path):
    file = read_coco(turned(tmp_path, 6, [BAR, BAR]), tmp_path / 'img', ignore_exif=True)
    assert file.content['annotations'][0]['bbox'] == BAR and not file.repairs


def test_upside_down_alone_is_noted(tmp_path):
    file = read_coco(turned(tmp_path, 3, [BAR, BAR]), tmp_path / 'img')
    assert file.content['annotations'][0]['bbox'] == BAR and not file.repairs
    assert 'hold an EXIF orientation' in file.notes[0]


def test_contradicting_boxes_are_refused(tmp_path):
    def change(content):
        boxes = [[50, 4, 10, 8], BAR, [4, 50, 8, 10], BAR]
        for annotation, box in zip(content['annotations'], boxes):
            annotation['bbox'] = box
    path = write_sample(tmp_path, change)
    for name in ('1', '2'):
        write_image(tmp_path / f'img/{name}.jpg', orientation=6)
    with pytest.raises(PreflightError, match='1.jpg fit only the picture as stored'):
        read_coco(path, tmp_path / 'img')


def test_a_picture_rotated_after_annotation(tmp_path):
    def change(content):
        content['images'][0].update(width=48, height=64)
        for annotation in content['annotations']:
            annotation['bbox'] = [4, 50, 8, 10]
    with pytest.raises(PreflightError, match='was rotated after it was annotated'):
        read_coco(write_sample(tmp_path, change), tmp_path / 'img')


def test_one_wrong_sample_makes_it_check_all(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sizes, 'MOST_SAMPLES', 1)

    def change(content):
        for image in content['images']:
            image.update(width=48, height=64)
    file = read_coco(write_sample(tmp_path, change, num_images=3), tmp_path / 'img')
    assert '3 images are swapped' in file.repairs[0]
