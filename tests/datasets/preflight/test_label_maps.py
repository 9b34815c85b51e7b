"""Label maps and settings of segmentors are checked before training."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

pytest.importorskip('mmseg')

import mobileone_mm.segmentation  # noqa: E402, F401
from mobileone_mm.datasets.preflight import check_data, label_maps  # noqa: E402
from mobileone_mm.engine import make_resumable  # noqa: E402
from mobileone_mm.utils.libraries import PreflightError  # noqa: E402

CLASSES = ('background', 'nucleus')


@pytest.fixture
def folder(tmp_path):
    """30 images with label maps of 2 classes."""
    for name in ('images', 'maps'):
        (tmp_path / name).mkdir()
    labels = np.zeros((12, 16), np.uint8)
    labels[2:9, 3:9] = 1
    for i in range(30):
        Image.fromarray(np.full((12, 16, 3), 8 * i, np.uint8)).save(
            tmp_path / f'images/{i:02}.jpg')
        Image.fromarray(labels).save(tmp_path / f'maps/{i:02}.png')
    return tmp_path


def config(folder, **dataset):
    dataset = dict(dict(
        type='BaseSegDataset', metainfo=dict(classes=CLASSES), data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='maps'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]), **dataset)
    head = dict(type='ASPPHead', num_classes=2, norm_cfg=dict(type='BN'),
                loss_decode=dict(type='CrossEntropyLoss'))
    return Config(dict(default_scope='mmseg', model=dict(decode_head=head),
                       train_dataloader=dict(batch_size=4, dataset=dataset)))


def message(cfg, loaders=('train', 'val')):
    with pytest.raises(PreflightError) as caught:
        check_data(cfg, loaders)
    return str(caught.value)


def each_map(folder, change):
    for path in (folder / 'maps').iterdir():
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def test_good_label_maps_pass(folder):
    check_data(config(folder))
    check_data(config(folder, _scope_='mmseg'))  # mmengine's mark of what 'mmseg::...' inherits


def test_black_and_white(folder):
    each_map(folder, lambda labels: labels * 255)
    assert "'nucleus' never occurs" in message(config(folder))


def test_nothing_to_learn(folder):
    each_map(folder, lambda labels: labels * 0)
    assert 'only the label 0 occurs' in message(config(folder))
    cfg = config(folder)
    cfg.val_dataloader = cfg.pop('train_dataloader')  # may be so
    check_data(cfg)


def test_ignored_pixels_are_nothing_to_learn(folder):
    each_map(folder, lambda labels: labels * 0 + 255)
    assert 'every pixel is ignored' in message(config(folder))
    each_map(folder, lambda labels: labels * 0 + np.arange(16, dtype=np.uint8) // 15)  # 0 and 1
    assert 'only the label 1 occurs' in message(config(
        folder, reduce_zero_label=True, metainfo=dict(classes=('a', 'b'))))


def test_of_many_maps_evenly_spaced_ones_are_read(folder, monkeypatch):
    looked = []
    monkeypatch.setattr(label_maps, 'MOST_LOOKS', 8)
    monkeypatch.setattr(label_maps, 'parallel', lambda look, pairs, progress: looked.extend(
        pair.mask.stem for pair in pairs) or map(look, pairs))
    check_data(config(folder))
    assert looked == [f'{i:02}' for i in range(0, 30, 4)]


@pytest.mark.parametrize('change, expected', [
    (lambda labels: labels + 1, 'holds the label 2, but the config has 2 classes (0 to 1, 255'),
    (lambda labels: labels.astype(np.uint16) * 256, 'holds the label 256'),  # wraps to 0 in mmseg
    (lambda labels: np.stack([labels * 90] * 2 + [labels], -1), 'a picture of mode RGB'),
    (lambda labels: np.stack([labels, labels * 0 + 255], -1), 'a picture of mode LA'),
    (lambda labels: labels[::2, ::2], 'differs in size from its image'),
    (lambda labels: labels.repeat(2, 0).repeat(2, 1), 'differs in size from its image'),
    (lambda labels: labels[:, :10], '10x12 pixels, but its image 17.jpg has 16x12'),
])
def test_a_single_bad_map_is_found_and_named(folder, change, expected):
    path = folder / 'maps/17.png'
    Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    text = message(config(folder))
    assert expected in text and str(path) in text


def test_the_data_set_says_which_label_is_ignored(folder):
    path = folder / 'maps/17.png'
    Image.fromarray(np.asarray(Image.open(path)) * 7).save(path)
    assert 'holds the label 7, but' in message(config(folder))
    check_data(config(folder, ignore_index=7))


def test_labels_that_mmseg_maps_to_ignored_ones_are_fine(folder):
    """Its class lists more classes than the config."""
    from mmseg.datasets import BaseSegDataset
    from mmseg.registry import DATASETS

    @DATASETS.register_module(force=True)
    class ThreeClasses(BaseSegDataset):
        METAINFO = dict(classes=(*CLASSES, 'other'))

    path = folder / 'maps/17.png'
    Image.fromarray(np.asarray(Image.open(path)) * 2).save(path)
    assert 'holds the label 2' in message(config(folder))
    check_data(config(folder, type='ThreeClasses'))


@pytest.mark.parametrize('mode', ['1', 'P'])
def test_label_maps_of_other_modes_are_read(folder, mode):
    for path in (folder / 'maps').iterdir():
        labels = Image.open(path)
        if mode == 'P':
            labels.putpalette([0, 0, 0, 255, 0, 0])
        else:
            labels = Image.fromarray(np.asarray(labels).astype(bool))
        assert labels.mode == mode
        labels.save(path)
    check_data(config(folder))


def test_lossy_compression_is_refused(folder):
    path = folder / 'maps/17.png'
    Image.fromarray(np.asarray(Image.open(path))).save(path, format='JPEG')
    assert f'{path}: was compressed lossily' in message(config(folder))


def test_classes_in_another_order(folder):
    """mmsegmentation maps labels by name where its class lists more, as Pascal VOC's does."""
    cfg = config(folder)
    cfg.val_dataloader = config(folder, metainfo=dict(classes=CLASSES[::-1])).train_dataloader
    assert ('val_dataloader has the classes (nucleus, background), training has (background, '
            'nucleus): give both the same, in the same order') in message(cfg)


def test_damage_is_named(folder):
    path = folder / 'maps/17.png'
    path.write_bytes(path.read_bytes()[:50])
    assert f'{path}: cannot be read as a mask' in message(config(folder))


def test_a_missing_map_names_the_suffixes(folder):
    (folder / 'maps/17.png').rename(folder / 'maps/17_mask.png')
    text = message(config(folder))
    assert '1 of 30 files' in text and 'for example 17.png; there is 00.png. The suff' in text
    assert "seg_map_suffix='.png'" in text


@pytest.mark.parametrize('names', [range(30), range(3)])
def test_images_with_another_suffix_are_not_silently_left_out(folder, names):
    for i in names:
        (folder / f'images/{i:02}.jpg').rename(folder / f'images/{i:02}.JPG')
    assert f"img_suffix='.jpg' finds {30 - len(names)} images and leaves out {len(names)}" in \
        message(config(folder))


def test_suffixes_that_are_more_than_a_format(folder):
    for kind, end in (('images', '_img.jpg'), ('maps', '_lab.png')):
        for path in (folder / kind).iterdir():
            path.rename(path.with_name(path.stem + end))
    cfg = config(folder, img_suffix='_img.jpg', seg_map_suffix='_lab.png')
    (folder / 'images/overview.png').write_bytes(b'x')
    check_data(cfg)
    (folder / 'images/03_img.jpg').rename(folder / 'images/03_IMG.JPG')
    assert 'finds 29 images and leaves out 1' in message(cfg)


def test_other_pictures_and_hidden_files_are_left_alone(folder):
    for name in ('notes.png', '._00.jpg.png', 'Thumbs.db'):
        (folder / 'images' / name).write_bytes(b'x')
    check_data(config(folder))


@pytest.mark.parametrize('dataset, expected', [
    (dict(metainfo=None), 'has no names of classes'),
    (dict(reduce_zero_label=True), "the first class is 'background'"),
])
def test_classes(folder, dataset, expected):
    assert expected in message(config(folder, **dataset))


def test_a_reduced_zero_label(folder):
    cfg = config(folder, reduce_zero_label=True, metainfo=dict(classes=('a', 'b')))
    each_map(folder, lambda labels: labels + 1)
    check_data(cfg)  # labels 1 and 2
    each_map(folder, lambda labels: labels + 1)
    assert 'holds the label 3, but the config has 2 classes (1 to 2' in message(cfg)


@pytest.mark.parametrize('mapped', [None, {1: 7, 3: 255}])
@pytest.mark.parametrize('reduces', [False, True])
def test_labels_become_what_mmseg_loads(reduces, mapped, tmp_path):
    from mmseg.datasets.transforms import LoadAnnotations
    values = np.arange(256, dtype=np.uint8)
    Image.fromarray(values.reshape(16, 16)).save(tmp_path / 'a.png')
    loaded = LoadAnnotations()(dict(seg_map_path=str(tmp_path / 'a.png'), seg_fields=[],
                                    reduce_zero_label=reduces, label_map=mapped))
    source = SimpleNamespace(option=dict(reduce_zero_label=reduces).get)
    found = [label_maps._label(int(value), source, mapped) for value in values]
    assert found == loaded['gt_seg_map'].flatten().tolist()
    assert label_maps._label(256, source, mapped) == 256  # not one of 8 bits: refused


def test_one_class_needs_a_sigmoid(folder):
    cfg = config(folder, metainfo=dict(classes=('nucleus', )))
    each_map(folder, lambda labels: labels * 0)
    cfg.model.decode_head.num_classes = 1
    assert 'model.decode_head.num_classes=1: the softmax over one class' in message(cfg)
    cfg.model.decode_head.loss_decode.use_sigmoid = True
    check_data(cfg)


@pytest.mark.parametrize('test_cfg, expected', [
    (dict(mode='slide', crop_size=(64, 64), stride=(96, 96)), 'choose a stride of at most'),
    (dict(mode='slide', crop_size=(64, 64)), 'needs crop_size'),
    (dict(mode='slide', crop_size=(64, 64), stride=(42, 64)), None),
])
def test_windows(folder, test_cfg, expected):
    cfg = config(folder)
    cfg.model.test_cfg = test_cfg
    if expected:
        assert expected in message(cfg)
    else:
        check_data(cfg)


@pytest.mark.parametrize('loader, expected', [
    (dict(batch_size=1), 'batch_size=1: the batch norm'),
    (dict(batch_size=29), '30 images in batches of 29: the last batch has one image'),
    (dict(batch_size=29, drop_last=True), None),
    (dict(batch_size=29, sampler=dict(type='InfiniteSampler')), None),
    (dict(batch_size=31, drop_last=True), '30 images and batch_size=31 with drop_last=True'),
    (dict(batch_size=31), None),
])
@pytest.mark.parametrize('head', ['ASPPHead', 'DeepLabV3Head'])
def test_batches_of_one(folder, head, loader, expected):
    cfg = config(folder)
    cfg.model.decode_head.type = head
    cfg.train_dataloader.update(loader)
    cfg.train_cfg = dict(by_epoch=True)
    make_resumable(cfg)  # as tools/train.py does, which wraps the data set
    if expected:
        assert expected in message(cfg)
    else:
        check_data(cfg)
    check_data(Config(dict(cfg, test_dataloader=cfg.train_dataloader)), ('test', ))


def test_repeated_and_joined_data_are_counted(folder):
    cfg = config(folder)
    inner = cfg.train_dataloader.dataset
    repeated = dict(type='RepeatDataset', times=2, dataset=inner)
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[repeated, inner])
    cfg.train_dataloader.batch_size = 89
    assert '90 images in batches of 89' in message(cfg)


def test_batches_of_one_are_fine_without_pooling(folder):
    cfg = config(folder)
    cfg.train_dataloader.batch_size = 1
    cfg.model.decode_head.type = 'FCNHead'
    check_data(cfg)
