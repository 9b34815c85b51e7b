"""Masks from any tool: mmsegmentation reads the drawn labels from what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')

from mmengine.registry import init_default_scope  # noqa: E402

from mobileone_mm.datasets.custom_seg.classes import (  # noqa: E402
    ClassTable,
    parse_value,
    read_classes,
)
from mobileone_mm.datasets.custom_seg.pairing import Pair, find_pairs, split_pairs  # noqa: E402
from mobileone_mm.datasets.custom_seg.prepare import Folders, prepare, write_data  # noqa: E402
from mobileone_mm.segmentation import ListedSegDataset  # noqa: E402
from mobileone_mm.utils.libraries import PreflightError  # noqa: E402

SIZE = (48, 40)  # width, height
COLORS = np.array([[0, 0, 0], [220, 20, 60], [0, 128, 255]], np.uint8)
TABLE = {'background': '#000000', 'road': [220, 20, 60], 'car': '#0080ff'}


def draw(seed, classes=3):
    """Labels (H, W) of rectangles, wide enough to survive compression."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SIZE[::-1], np.uint8)
    for label in range(1, classes):
        x, y = rng.integers(0, 24), 20 * (label - 1) + rng.integers(0, 4)
        labels[y:y + 14, x:x + 16] = label
    return labels


def write(folder, save, classes=3, count=4, image_suffix='.png', mask_name='{}.png'):
    """Images and masks in ``folder``; returns their folders and the labels."""
    (folder / 'images').mkdir(parents=True)
    (folder / 'masks').mkdir()
    drawn = {}
    for i in range(count):
        labels = drawn[f'p{i}'] = draw(i, classes)
        picture = np.stack([60 + 50 * labels] * 3, -1)
        Image.fromarray(picture).save(folder / f'images/p{i}{image_suffix}')
        save(labels, folder / 'masks' / mask_name.format(f'p{i}'))
    return Folders(folder / 'images', folder / 'masks'), drawn


def read_back(folders, tmp_path, classes=None, ignored=()):
    """The prepared data, and the label maps that mmsegmentation loads, by image name."""
    before = contents(tmp_path)
    prepared = prepare(folders, None, .5, classes=classes, ignored=ignored, progress=False)
    splits = write_data(prepared, tmp_path / 'data', progress=False)
    after = contents(tmp_path)
    assert all(after[path] == content for path, content in before.items())  # only read
    init_default_scope('mmseg')
    found = {}
    for split in splits:
        dataset = ListedSegDataset(
            ann_file=str(tmp_path / f'data/{split.name}.json'),
            data_prefix=dict(img_path=str(split.folders.images),
                             seg_map_path=str(split.folders.masks)),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
        for sample in dataset:
            assert sample['img'].shape[:2] == sample['gt_seg_map'].shape
            found[Path(sample['img_path']).stem] = sample['gt_seg_map'], sample['img']
    return prepared, {name: labels for name, (labels, _) in found.items()}, found


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def as_index(labels, path):
    Image.fromarray(labels).save(path)


def as_palette(labels, path):
    image = Image.fromarray(labels, mode='P')
    image.putpalette(COLORS.reshape(-1).tolist())
    image.save(path)


def as_shuffled_palette(labels, path):
    """As GIMP may write them: an index means different things in different files."""
    order = np.array([2, 0, 1] if path.name.startswith('p1') else [0, 1, 2])
    image = Image.fromarray(order[labels].astype(np.uint8), mode='P')
    image.putpalette(COLORS[np.argsort(order)].reshape(-1).tolist())
    image.save(path)


def as_rgb(labels, path):
    Image.fromarray(COLORS[labels]).save(path)


def as_rgba(labels, path):
    alpha = np.where(labels[..., None] > 0, 255, 0).astype(np.uint8)  # hides black only
    Image.fromarray(np.concatenate([COLORS[labels], alpha], -1)).save(path)


def as_la(labels, path):
    Image.fromarray(np.stack([labels, np.full_like(labels, 255)], -1)).save(path)


def as_gray_rgb(labels, path):
    Image.fromarray(np.stack([labels] * 3, -1)).save(path)


def as_16_bit(labels, path):
    Image.fromarray(labels.astype(np.uint16)).save(path)


def as_soft_rgb(labels, path):
    """Edges smoothed by a program that resizes."""
    image = Image.fromarray(COLORS[labels]).resize((4 * SIZE[0], 4 * SIZE[1]), 0)
    image.resize(SIZE, Image.Resampling.BICUBIC).save(path)


def from_one(labels, path):
    Image.fromarray(labels + np.uint8(1)).save(path)


def scaled(top, mode=np.uint8):
    def save(labels, path):
        Image.fromarray((labels.astype(np.int64) * top).astype(mode)).save(path)
    return save


def larger(labels, path):
    Image.fromarray(labels).resize((96, 80), 0).save(path)


NAMES = ClassTable(('background', 'road', 'car'))
COLOR_TABLE = ClassTable(NAMES.names, tuple(parse_value(v)[0] for v in TABLE.values()), 'color')
GRAY_TABLE = ClassTable(NAMES.names, (0, 100, 200), 'gray')


@pytest.mark.parametrize('save, classes, note', [
    (as_index, NAMES, None), (as_index, COLOR_TABLE, 'are not needed'), (as_palette, NAMES, None),
    (as_palette, COLOR_TABLE, None), (as_shuffled_palette, COLOR_TABLE, 'written to'),
    (as_rgb, COLOR_TABLE, 'written to'), (as_rgba, COLOR_TABLE, 'written to'),
    (as_la, NAMES, 'written to'), (as_gray_rgb, NAMES, 'written to'), (as_16_bit, NAMES, None),
    (from_one, NAMES, 'count classes from 1'), (scaled(100), GRAY_TABLE, 'written to'),
    (larger, NAMES, 'differ in size from their images'),
])
def test_labels_are_those_that_were_drawn(tmp_path, save, classes, note):
    folders, drawn = write(tmp_path, save)
    prepared, found, _ = read_back(folders, tmp_path, classes)
    assert found.keys() == drawn.keys()
    for name, labels in drawn.items():
        np.testing.assert_array_equal(found[name], labels)
    # Counted by NumPy in the drawn labels.
    counts = sum(np.bincount(labels.reshape(-1), minlength=3) for labels in drawn.values())
    assert (prepared.train.pixels + prepared.val.pixels).tolist() == [*counts, 0]
    assert prepared.reading.classes.names == NAMES.names
    notes = '\n'.join(prepared.notes)
    assert note in notes if note else 'written to' not in notes


@pytest.mark.parametrize('save, mask_name', [
    (scaled(255), '{}.png'), (scaled(65535, np.uint16), '{}.png'), (scaled(255), '{}.jpg'),
    (lambda labels, path: Image.fromarray(labels > 0).save(path), '{}.png'),
])
@pytest.mark.parametrize('classes', [None, ClassTable(('nucleus', )), ClassTable(('no', 'yes'))])
def test_black_and_white(tmp_path, save, mask_name, classes):
    folders, drawn = write(tmp_path, save, classes=2, mask_name=mask_name)
    prepared, found, _ = read_back(folders, tmp_path, classes)
    for name, labels in drawn.items():
        assert (found[name] != labels).mean() <= (.002 if 'jpg' in mask_name else 0)
    expected = {None: ('background', 'foreground'), 1: ('background', 'nucleus'), 2: ('no', 'yes')}
    assert prepared.reading.classes.names == expected[classes and len(classes.names)]


@pytest.mark.parametrize('save, mask_name', [(as_rgb, '{}.jpg'), (as_soft_rgb, '{}.png')])
def test_smeared_colors_go_to_the_nearest(tmp_path, save, mask_name):
    folders, drawn = write(tmp_path, save, mask_name=mask_name)
    prepared, found, _ = read_back(folders, tmp_path, COLOR_TABLE)
    assert any('go to the nearest' in line for line in prepared.notes)
    for name, labels in drawn.items():
        kept = found[name] != 255
        assert kept.mean() > .9 and (found[name] != labels)[kept].mean() < .02


@pytest.mark.parametrize('suffix, options', [
    ('webp', dict(quality=80)), ('tif', dict(compression='jpeg')), ('jpg', {})])
def test_labels_that_compression_has_changed_are_refused(tmp_path, suffix, options):
    """There are classes enough for the wrong values as well."""
    def save(labels, path):
        Image.fromarray(np.stack([labels] * 3, -1)).save(path, **options)
    folders, _ = write(tmp_path, save, mask_name='{}.' + suffix)
    classes = ClassTable(tuple(f'class {i}' for i in range(20)))
    with pytest.raises(PreflightError, match='compression or soft edges have changed'):
        prepare(folders, None, .5, classes=classes, progress=False)


def test_a_lossless_webp_is_kept(tmp_path):
    def save(labels, path):
        Image.fromarray(np.stack([labels] * 3, -1)).save(path, lossless=True)
    folders, drawn = write(tmp_path, save, mask_name='{}.webp')
    _, found, _ = read_back(folders, tmp_path)
    for name, labels in drawn.items():
        np.testing.assert_array_equal(found[name], labels)


def test_only_ends_of_lines_part_names(tmp_path):
    (tmp_path / 'names.txt').write_bytes('\ufeffbg\r\na\u2028b\r\rc\x0cd\n'.encode())
    assert read_classes(tmp_path / 'names.txt').names == ('bg', 'a\u2028b', 'c\x0cd')


def test_ignored_pixels_stay_ignored(tmp_path):
    def save(labels, path):
        labels = labels.copy()
        labels[:4] = 255
        as_index(labels, path)
    folders, drawn = write(tmp_path, save)
    prepared, found, _ = read_back(folders, tmp_path)  # names are made up
    assert all((labels[:4] == 255).all() for labels in found.values())
    assert prepared.reading.classes.names == ('class_0', 'class_1', 'class_2')
    assert prepared.train.pixels[-1] + prepared.val.pixels[-1] == len(drawn) * 4 * SIZE[0]


def test_chosen_values_are_ignored(tmp_path):
    folders, drawn = write(tmp_path, as_rgb)
    _, found, _ = read_back(folders, tmp_path, ClassTable(
        ('road', 'car'), COLOR_TABLE.values[1:], 'color'), [parse_value('#000000')])
    for name, labels in drawn.items():
        np.testing.assert_array_equal(found[name], np.array([255, 0, 1])[labels])


@pytest.mark.parametrize('orientation', range(5, 9))  # of 2 to 4 the size does not tell
def test_masks_of_rotated_photographs(tmp_path, orientation):
    """The mask has the orientation of the stored pixels. mmcv rotates the image, so must we."""
    folders, drawn = write(tmp_path, as_index, image_suffix='.jpg')
    for name, labels in drawn.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = np.stack([80 * labels] * 3, -1)
        Image.fromarray(picture).save(folders.images / f'{name}.jpg', exif=exif, quality=95)
    _, _, found = read_back(folders, tmp_path, NAMES)
    for labels, picture in found.values():
        seen = np.round(picture[..., 0] / 80).astype(int)
        assert (seen == labels).mean() > .97


def gone(folders):
    (folders.masks / 'p2.png').unlink()


def other_shape(folders):
    Image.fromarray(np.zeros((40, 30), np.uint8)).save(folders.masks / 'p2.png')


def damaged(folders):
    path = folders.masks / 'p2.png'
    path.write_bytes(path.read_bytes()[:60])


def label_7(folders):
    labels = draw(2)
    labels[0, 0] = 7
    as_index(labels, folders.masks / 'p2.png')


def empty(folders):
    for path in folders.masks.iterdir():
        path.unlink()


def nothing_drawn(folders):
    for path in folders.masks.iterdir():
        as_index(np.zeros(SIZE[::-1], np.uint8), path)


def see_through(folders):
    pixels = np.full((*SIZE[::-1], 4), 9, np.uint8)
    pixels[0, 0, 3] = 255
    Image.fromarray(pixels).save(folders.masks / 'p2.png')


@pytest.mark.parametrize('damage, save, classes, expected', [
    (gone, as_index, NAMES, '1 of 4 images have no mask .*p2.png.*--without-mask'),
    (other_shape, as_index, NAMES, 'p2.png: 30x40 pixels, but its image p2.png has 48x40'),
    (damaged, as_index, NAMES, 'p2.png: cannot be read as a mask'),
    (label_7, as_index, NAMES, 'p2.png: holds the label 7, but there are 3 classes'),
    (empty, as_index, NAMES, 'holds no pictures'),
    (nothing_drawn, as_index, NAMES, "'background' is the only class"),
    (see_through, as_index, NAMES, 'p2.png: has an alpha channel'),
    (None, as_rgb, NAMES, r'a color mask \(#000000 .*--classes palette.json, such as \{"NAME 0"'),
    (None, as_rgb, GRAY_TABLE, 'a color mask .*but --classes lists gray values'),
    (None, as_rgb, ClassTable(('a', 'b'), COLOR_TABLE.values[:2], 'color'),
     'holds #0080ff, which --classes does not list'),
    (None, as_shuffled_palette, NAMES, 'its index 0 is #.*indices mean nothing'),
    (None, scaled(100), None, 'holds the value 200.*3 values'),
    (None, scaled(3000, np.uint16), NAMES, 'holds the label 6000'),
    (None, as_index, ClassTable(('road', 'car')), 'if 0 is the background, begin --classes'),
])
def test_what_has_no_single_meaning_is_refused(tmp_path, damage, save, classes, expected):
    folders, _ = write(tmp_path, save)
    if damage:
        damage(folders)
    with pytest.raises(PreflightError, match=expected):
        read_back(folders, tmp_path, classes)
    assert not (tmp_path / 'data/train.json').exists()


def test_an_interrupted_run_can_be_repeated(tmp_path, monkeypatch):
    folders, drawn = write(tmp_path, as_rgb)
    prepared = prepare(folders, None, .5, classes=COLOR_TABLE, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr('mobileone_mm.datasets.custom_seg.prepare._convert', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_data(prepared, tmp_path / 'data', progress=False)
    write_data(prepared, tmp_path / 'data', progress=False)
    assert len(list((tmp_path / 'data/masks').rglob('*.png'))) == len(drawn)


def test_labels_in_jpeg_are_refused(tmp_path):
    folders, _ = write(tmp_path, scaled(3), mask_name='{}.jpg')
    with pytest.raises(PreflightError, match='compression or soft edges have changed'):
        read_back(folders, tmp_path, NAMES)


@pytest.mark.parametrize('choice, expected', [('skip', 3), ('background', 4)])
def test_images_without_masks(tmp_path, choice, expected):
    folders, _ = write(tmp_path, as_index)
    gone(folders)
    prepared = prepare(folders, None, .5, classes=NAMES, without_mask=choice, progress=False)
    write_data(prepared, tmp_path / 'data', progress=False)
    lists = [json.loads((tmp_path / f'data/{name}.json').read_text())
             for name in ('train', 'val')]
    assert sum(map(len, lists)) == expected
    masks = tmp_path / 'data/masks'
    if choice == 'background':
        path = next(masks.rglob('p2.png'))
        assert np.asarray(Image.open(path)).any() == 0
    else:
        assert not masks.exists()


@pytest.mark.parametrize('names, table', [
    ('cat\ndog\n\n', ClassTable(('cat', 'dog'))),
    ('{"a": 0, "b": 128}', ClassTable(('a', 'b'), (0, 128), 'gray')),
    ('{"a": "#000000", "b": [1, 2, 3]}', ClassTable(('a', 'b'), (0, 0x010203), 'color')),
    ('["a", "b"]', ClassTable(('a', 'b'))),
])
def test_classes_are_read(tmp_path, names, table):
    path = tmp_path / ('c.txt' if names[0] == 'c' else 'c.json')
    path.write_text('\ufeff' + names)
    assert read_classes(path) == table


@pytest.mark.parametrize('names, expected', [
    ('', 'names no classes'), ('[', 'cannot be read'), ('{"a": 300000}', 'neither a gray value'),
    ('{"a": 0, "b": "#000000"}', 'one kind'), ('["a", "a"]', "'a' appears twice"),
    ('{"a": 5, "b": 5}', 'the value 5 appears twice'), ('[1]', 'not a class name'),
    ('3', 'expected a list'),
    ('{"a": [1, 2]}', 'neither'), ('{}', 'names no classes'),
])
def test_bad_classes_are_refused(tmp_path, names, expected):
    path = tmp_path / ('c.json' if names else 'c.txt')
    path.write_text(names)
    with pytest.raises(PreflightError, match=expected):
        read_classes(path)


@pytest.mark.parametrize('images, masks', [
    (('a.jpg', 'b.JPG'), ('a.png', 'b.PNG')),
    (('a.jpg', 'b.jpg'), ('a_mask.png', 'b_mask.png')),
    (('1.jpg', '2.jpg', '12.jpg'), ('mask1.png', 'mask2.png', 'mask12.png')),
    (('1_sat.jpg', '2_sat.jpg'), ('1_mask.png', '2_mask.png')),
    (('img_001.png', 'img_012.png'), ('seg-001.bmp', 'seg-012.bmp')),
    (('x/a.jpg', 'y/a.jpg'), ('x/a_gt.png', 'y/a_gt.png')),
    (('a.b.jpg', 'a.c.jpg'), ('a.b.png', 'a.c.png')),
    (('c_01_leftImg8bit.png', 'c_02_leftImg8bit.png'), ('c_01_gtFine.png', 'c_02_gtFine.png')),
    (('cam2_10.png', 'cam2_20.png'), ('m2_10.png', 'm2_20.png')),
])
def test_names_are_paired(tmp_path, images, masks):
    for folder, names in (('images', images), ('masks', masks)):
        for name in (*names, '._hidden.png'):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    pairs = find_pairs(tmp_path / 'images', tmp_path / 'masks').pairs
    found = {pair.image: pair.mask for pair in pairs}
    assert found == {tmp_path / 'images' / image: tmp_path / 'masks' / mask
                     for image, mask in zip(images, masks)}


def test_masks_beside_the_photographs(tmp_path):
    for name in ('a.jpg', 'a_mask.png', 'b.jpg', 'b_mask.png'):
        (tmp_path / name).touch()
    pairs = find_pairs(tmp_path, tmp_path).pairs
    assert [(pair.image.name, pair.mask.name) for pair in pairs] == [
        ('a.jpg', 'a_mask.png'), ('b.jpg', 'b_mask.png')]


@pytest.mark.parametrize('images, masks, expected', [
    (('a.jpg', 'a.png'), ('a.png', ), 'differ only in their suffix'),
    (('a.jpg', ), ('b.png', ), 'is named like an image'), ((), ('a.png', ), 'holds no pictures'),
])
def test_names_that_cannot_be_paired(tmp_path, images, masks, expected):
    for folder, names in (('images', images), ('masks', masks)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    with pytest.raises(PreflightError, match=expected):
        find_pairs(tmp_path / 'images', tmp_path / 'masks')


def test_the_validation_share_depends_only_on_names_and_seed():
    pairs = [Pair(f'p{i}', Path(f'{i}.jpg'), None) for i in range(50)]
    train, val = split_pairs(pairs, .2)
    assert len(val) == 10 and not set(train) & set(val) and {*train, *val} == set(pairs)
    assert {*split_pairs(pairs[::-1], .2)[1]} == set(val)
    assert {*split_pairs(pairs, .2, seed=1)[1]} != set(val)
    assert [len(part) for part in split_pairs(pairs[:2], .01)] == [1, 1]
    for share in (0, 1, 20):
        with pytest.raises(PreflightError, match='--val-share'):
            split_pairs(pairs, share)
    with pytest.raises(PreflightError, match='at least 2'):
        split_pairs(pairs[:1], .5)
