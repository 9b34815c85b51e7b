"""Fields that exporters write differently are repaired if they have one meaning, else refused."""

import copy
import json
import random

import pytest
from coco_samples import sample, write_sample

from mobileone_mm.datasets.coco_files import count, match_categories, read_coco
from mobileone_mm.utils.libraries import PreflightError


def each(key, change):
    """Change a field of all annotations."""
    def apply(content):
        for number, annotation in enumerate(content['annotations']):
            annotation[key] = change(annotation[key], number)
    return apply


def drop(key, of='annotations'):
    def apply(content):
        for item in content[of]:
            del item[key]
    return apply


def rename_image_ids(content, images=str, annotations=str):
    for item in content['images']:
        item['id'] = images(item['id'])
    for item in content['annotations']:
        item['image_id'] = annotations(item['image_id'])


def string_categories(content):
    for item in content['categories']:
        item['id'] = str(item['id'])


@pytest.mark.parametrize('change, said', [
    (drop('iscrowd'), 'iscrowd is missing'),
    (each('iscrowd', lambda *_: None), 'iscrowd is missing'),
    (each('iscrowd', lambda *_: '0'), "iscrowd is '0'"),
    (each('iscrowd', lambda *_: False), 'iscrowd is False'),
    (each('iscrowd', lambda *_: float('nan')), 'iscrowd is nan'),
    (drop('id'), 'ids of annotations are missing'),
    (each('id', lambda value, _: f'a{value}'), 'ids of annotations are not integers'),
    (each('id', lambda value, _: value - 1), 'ids of annotations are 0 or less'),
    (each('id', lambda *_: 7), 'ids of annotations are repeated'),
    (each('bbox', lambda value, _: [f' {v}.0' for v in value]), 'coordinates are strings'),
    (drop('area'), 'area of 4 annotations'),
    (each('area', lambda *_: 0), 'area of 4 annotations'),
    (each('area', lambda *_: float('nan')), 'area of 4 annotations'),
    (each('area', lambda *_: float('inf')), 'area of 4 annotations'),
    (each('area', lambda value, _: str(value)), 'areas are strings'),
    (lambda c: rename_image_ids(c), 'ids of images are not integers'),
    (lambda c: rename_image_ids(c, images=int), 'ids of images are not integers'),
    (lambda c: rename_image_ids(c, int, float), 'ids of images are not integers'),
    (lambda c: rename_image_ids(c, '{:03}'.format, str), 'ids of images are not integers'),
    (string_categories, 'ids of categories are not integers'),
    (drop('width', 'images'), 'width and height of 2 images are missing'),
    (lambda c: c['images'][0].update(width=-1), 'width and height of 1 images are missing'),
    (lambda c: c['images'][0].update(width='64'), 'width or height of 1 images are strings'),
    (lambda c: c['images'][0].update(width=48, height=64), 'width and height of 1 images are swap'),
    (lambda c: c['images'].append(dict(c['images'][0])), '1 images are listed twice'),
])
def test_repaired_to_what_it_means(tmp_path, change, said):
    path = write_sample(tmp_path, change)
    before = path.read_bytes()
    file = read_coco(path, tmp_path / 'img')
    assert len(file.repairs) == 1 and said in file.repairs[0]
    assert file.content == sample()
    target = tmp_path / 'copy.json'
    assert str(target) in file.write(target) and path.read_bytes() == before
    again = read_coco(target, tmp_path / 'img')
    assert again.repairs == [] and again.content == file.content


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_byte_order_marks(tmp_path, encoding):
    path = write_sample(tmp_path)
    path.write_text(path.read_text(), encoding=encoding)
    file = read_coco(path, tmp_path / 'img')
    assert file.content == sample() and 'its encoding is' in file.repairs[0]


def test_word_ids_keep_the_boxes_together(tmp_path):
    names = {1: 'left', 2: 'right'}
    file = read_coco(write_sample(
        tmp_path, lambda c: rename_image_ids(c, names.get, names.get)), tmp_path / 'img')
    assert file.content == sample()


def test_crowds_stay_crowds(tmp_path):
    file = read_coco(write_sample(
        tmp_path, each('iscrowd', lambda _, i: ['1', 'true', True, None][i])), tmp_path / 'img')
    assert [a['iscrowd'] for a in file.content['annotations']] == [1, 1, 1, 0]


def test_good_files_are_left_alone(tmp_path):
    file = read_coco(write_sample(tmp_path), tmp_path / 'img', evaluated=True)
    assert file.content == sample() and not file.repairs and not file.notes


@pytest.mark.parametrize('change, said', [
    (each('bbox', lambda *_: [1, 2, 3]), 'has bbox [1, 2, 3]'),
    (each('bbox', lambda *_: ['a', 1, 2, 3]), "has bbox ['a', 1, 2, 3]"),
    (each('bbox', lambda *_: '1 2 3 4'), "has bbox '1 2 3 4'"),
    (drop('bbox'), 'lacks bbox'), (drop('image_id'), 'lacks image_id'),
    (each('image_id', lambda *_: None), 'an id is None'),
    (each('image_id', lambda *_: 99), 'has image_id 99'),
    (each('category_id', lambda *_: 99), 'has category_id 99'),
    (lambda c: c['images'][1].update(id=1), 'several images have the id 1, for example 1.jpg'),
    (lambda c: c['images'][1].update(id='1'), 'several of the images have the id 1'),
    (drop('id', 'images'), 'the image 1.jpg lacks id'), (drop('file_name', 'images'), 'an image'),
    (lambda c: c['categories'][1].update(name='box'), 'a category is listed twice: box'),
    (lambda c: c['categories'][1].update(id=1), 'several of the categories have the id 1'),
    (lambda c: c['categories'][1].update(name=''), "has the name ''"),
    (lambda c: c['annotations'].append(5), 'the list annotations holds 5'),
    (lambda c: c['images'][0].update(width=640, height=480), 'listed as (640, 480), but the file'),
    (lambda c: c.pop('annotations'), 'needs the lists'),
    (lambda c: c['images'].clear(), 'lists no images'),
])
def test_refused_in_one_line(tmp_path, change, said):
    path = write_sample(tmp_path, change)
    with pytest.raises(PreflightError) as caught:
        read_coco(path, tmp_path / 'img')
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and said in message and '\n' not in message


def test_corners_are_no_boxes(tmp_path):
    def corners(value, _):
        x, y, width, height = value
        return [x, y, x + width, y + height]
    path = write_sample(tmp_path, each('bbox', corners))
    with pytest.raises(PreflightError, match='2 of 4 boxes reach beyond .* as corners'):
        read_coco(path, tmp_path / 'img')


def test_a_box_beyond_its_image_is_noted(tmp_path):
    path = write_sample(tmp_path, lambda c: c['annotations'][1].update(bbox=[40, 30, 32, 11]))
    assert '1 of 4 boxes reach beyond' in read_coco(path, tmp_path / 'img').notes[0]
    path = write_sample(tmp_path, lambda c: c['annotations'][1].update(bbox=[-3, 30, 12, 11]))
    assert 'has bbox [-3, 30, 12, 11]' in read_coco(path, tmp_path / 'img').notes[0]


def test_what_is_listed_twice_is_noted(tmp_path):
    def change(content):
        content['annotations'].append(dict(content['annotations'][0], id=9))
        content['images'].append(dict(content['images'][0], id=3))
    file = read_coco(write_sample(tmp_path, change), tmp_path / 'img')
    assert not file.repairs and len(file.notes) == 2
    assert '1 of 5 boxes are listed twice' in file.notes[0]
    assert '1 images share a file with another' in file.notes[1]


def test_damaged_files(tmp_path):
    path = write_sample(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PreflightError, match='not complete JSON'):
        read_coco(path)
    path = write_sample(tmp_path)
    (tmp_path / 'img/1.jpg').write_bytes(b'no image')
    with pytest.raises(PreflightError, match='1.jpg cannot be read as an image'):
        read_coco(path, tmp_path / 'img')


def test_boxes_that_nothing_can_match_are_left_out_of_metrics(tmp_path):
    bad = [[float('nan'), 1, 5, 5], [100, 5, 10, 10], [1, 1, 0, 5]]

    def change(content):
        for annotation, box in zip(content['annotations'], bad):
            annotation['bbox'] = box
    path = write_sample(tmp_path, change)
    file = read_coco(path, tmp_path / 'img', evaluated=True)
    assert file.content['annotations'] == sample()['annotations'][3:]
    assert [repair.split(' (')[0] for repair in file.repairs] == [
        '1 boxes not finite', '1 boxes without width or height', '1 boxes outside their image']
    json.loads(json.dumps(file.content), parse_constant=pytest.fail)  # no NaN is written
    assert len(read_coco(path, tmp_path / 'img').content['annotations']) == 3


@pytest.mark.parametrize('box, evaluated, why', [
    ([None] * 4, False, '4 boxes not finite'), ([100, 100, 5, 5], True, '4 boxes outside')])
def test_it_says_why_no_box_is_left(tmp_path, box, evaluated, why):
    path = write_sample(tmp_path, each('bbox', lambda *_: box))
    with pytest.raises(PreflightError, match=f'holds no boxes that can be used: {why}'):
        read_coco(path, evaluated=evaluated)
    assert read_coco(path, evaluated=evaluated, labeled=False).content['annotations'] == []


def test_infinite_boxes_are_left_out_and_not_beyond_their_image(tmp_path):
    path = write_sample(tmp_path, lambda c: c['annotations'][0].update(bbox=[float('inf')] * 4))
    file = read_coco(path)
    assert '1 boxes not finite' in file.repairs[0] and not file.notes


def test_categories_are_matched_by_name(tmp_path):
    def change(content):  # another order, other ids
        content['categories'] = [dict(id=5, name='disc'), dict(id=9, name='box')]
        for annotation in content['annotations']:
            annotation['category_id'] = {1: 9, 2: 5}[annotation['category_id']]
    file = read_coco(write_sample(tmp_path, change))
    match_categories(file, ('box', 'disc'))
    assert [c['name'] for c in file.content['categories']] == ['box', 'disc']
    assert 'not in the order' in file.repairs[0]
    file = read_coco(write_sample(tmp_path, change))
    match_categories(file, ('ring', 'box', 'disc'))
    assert file.content['categories'][0] == dict(id=10, name='ring')
    assert 'lists no category ring' in file.repairs[0]
    file = read_coco(write_sample(tmp_path))
    match_categories(file, ('box', ))
    match_categories(file, ('box', ))  # a second time
    assert not file.repairs and len(file.notes) == 1
    assert '2 boxes of categories that are not classes' in file.notes[0]
    with pytest.raises(PreflightError, match='Box not found'):
        match_categories(file, ('Box', 'disc'))


ODD = [None, True, -1, 0, 3, 2.5, 1e308, float('nan'), float('inf'), 10**400, '', '1', 'x', '\x00',
       '\ud800', [], [1], [[]], {}, {'id': 1}, [1, 2, 3, 4], ['1'] * 4, [None] * 4]


@pytest.mark.parametrize('seed', range(20))
def test_any_file_is_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(40):
        content = sample()
        for _ in range(rng.randint(1, 3)):
            node, key = content, rng.choice(list(content))
            while isinstance(node[key], (dict, list)) and node[key] and rng.random() < .85:
                node = node[key]
                key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            node[key] = copy.deepcopy(rng.choice(ODD))
        path = tmp_path / 'ann.json'
        path.write_text(json.dumps(content))
        try:
            file = read_coco(path, tmp_path, evaluated=rng.random() < .5)
            match_categories(file, ('box', 'disc'))
            counts = count(file, ('box', 'disc'), dict(filter_empty_gt=True))
        except PreflightError as error:
            assert str(path) in str(error)
        else:
            assert 0 <= counts.total <= 4
            file.write(tmp_path / 'copy.json')
            assert read_coco(tmp_path / 'copy.json').repairs == []


def test_the_original_is_never_overwritten(tmp_path):
    path = write_sample(tmp_path)
    (tmp_path / 'link.json').symlink_to(path)
    with pytest.raises(PreflightError, match='would overwrite the original'):
        read_coco(path).write(tmp_path / 'link.json')
