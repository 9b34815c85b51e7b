"""The commands in docs/own_data.md convert other formats to annotations that mean the same."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from coco_samples import sample, write_image
from paths import ROOT

from mobileone_mm.datasets.coco_files import match_categories, read_coco

CLASSES = ('box', 'disc')
COMMANDS = re.findall(r'^(globox convert .*)$', (ROOT / 'docs/own_data.md').read_text(), re.M)


@pytest.fixture
def exports(tmp_path):
    """The sample as each tool would write it, and its images."""
    for folder in ('IMG_DIR', 'VOC_DIR', 'YOLO_DIR', 'LABELME_DIR'):
        (tmp_path / folder).mkdir()
    content = sample()
    cvat = []
    for image in content['images']:
        write_image(tmp_path / 'IMG_DIR' / image['file_name'])
        boxes = [(CLASSES[a['category_id'] - 1], *a['bbox']) for a in content['annotations']
                 if a['image_id'] == image['id']]
        name = Path(image['file_name']).stem
        (tmp_path / f'VOC_DIR/{name}.xml').write_text(voc(image, boxes))
        (tmp_path / f'YOLO_DIR/{name}.txt').write_text('\n'.join(
            f'{CLASSES.index(c)} {(x + w / 2) / 64} {(y + h / 2) / 48} {w / 64} {h / 48}'
            for c, x, y, w, h in boxes))
        (tmp_path / f'LABELME_DIR/{name}.json').write_text(json.dumps(dict(
            imagePath=f'../IMG_DIR/{image["file_name"]}', imageWidth=64, imageHeight=48,
            shapes=[dict(label=c, shape_type='rectangle', points=[[x, y], [x + w, y + h]])
                    for c, x, y, w, h in boxes])))
        cvat.append(f'<image id="{image["id"]}" name="{image["file_name"]}" width="64" height="48">'
                    + ''.join(f'<box label="{c}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
                              for c, x, y, w, h in boxes) + '</image>')
    (tmp_path / 'cvat.xml').write_text(f'<annotations>{"".join(cvat)}</annotations>')
    (tmp_path / 'classes.txt').write_text('\n'.join(CLASSES))
    return tmp_path


def voc(image, boxes):
    objects = ''.join(
        f'<object><name>{c}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>'
        f'<ymax>{y + h}</ymax></bndbox></object>' for c, x, y, w, h in boxes)
    return (f'<annotation><filename>{image["file_name"]}</filename><size><width>64</width>'
            f'<height>48</height><depth>3</depth></size>{objects}</annotation>')


def meaning(content):
    """The content of a file, whatever its ids."""
    images = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    return sorted((Path(images[a['image_id']]['file_name']).name, names[a['category_id']],
                   tuple(map(float, a['bbox'])), float(a['area'])) for a in content['annotations'])


def test_four_formats_are_documented():
    formats = [re.search(r'--format (\S+)', line)[1] for line in COMMANDS]
    assert formats == ['pascalvoc', 'yolov5', 'labelme', 'cvat']


@pytest.mark.skipif(importlib.util.find_spec('globox') is None, reason='globox is not installed')
@pytest.mark.parametrize('line', COMMANDS)
def test_documented_lines(exports, line):
    subprocess.run([sys.executable, '-m', *shlex.split(line)], cwd=exports, check=True)
    folder = exports / ('LABELME_DIR' if 'labelme' in line else 'IMG_DIR')
    file = read_coco(exports / 'train.json', folder)
    match_categories(file, CLASSES)
    assert meaning(file.content) == meaning(sample())
    assert any('ids of annotations are 0' in repair for repair in file.repairs)  # as globox counts


def test_label_studio_exports_coco(tmp_path):
    """Its own converter writes ids from 0, and in some versions no iscrowd."""
    content = sample()
    for image in content['images']:
        image.update(id=image['id'] - 1, file_name=f'images/{image["file_name"]}')
    for annotation in content['annotations']:
        annotation.update(id=annotation['id'] - 1, image_id=annotation['image_id'] - 1,
                          category_id=annotation['category_id'] - 1, ignore=0, segmentation=[])
        del annotation['iscrowd']
    for category in content['categories']:
        category['id'] -= 1
    (tmp_path / 'images').mkdir()
    for name in ('1.jpg', '2.jpg'):
        write_image(tmp_path / 'images' / name)
    (tmp_path / 'result.json').write_text(json.dumps(content))
    file = read_coco(tmp_path / 'result.json', tmp_path)
    assert meaning(file.content) == meaning(sample()) and len(file.repairs) == 2
