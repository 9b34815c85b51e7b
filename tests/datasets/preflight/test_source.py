"""What a data set's config names; the classes stand for those of the libraries."""

from pathlib import Path

import pytest
from mmengine.registry import DATASETS

from mobileone_mm.datasets.preflight.source import DOWNLOADS, Source


class Base:
    METAINFO = dict(classes=('base', ))

    def __init__(self, needed, data_prefix=dict(img_path='pictures'), test_mode=False, **kwargs):
        self.options = dict(kwargs, needed=needed, test_mode=test_mode)


class CocoDataset(Base):
    def __init__(self, *args, test_mode=True, data_prefix, **kwargs):
        super().__init__(*args, **kwargs)


class CocoPanopticDataset(CocoDataset):
    METAINFO: dict = {}


class Segmentation(Base):
    METAINFO = None

    def get_label_map(self):
        raise NotImplementedError

    def load_data_list(self):
        return [dict(i=i, **self.options) for i in range(5)]


def source(kind=Base, scope=None, **cfg):
    return Source(dict(type=kind, **cfg), scope)


def test_paths_lie_below_the_root():
    found = source(data_root='a', ann_file='b/c.json', data_prefix=dict(img='i', other=3, x='y'))
    assert found.root == Path('a') and found.ann_file == Path('a/b/c.json')
    assert found.folders == dict(img=Path('a/i'), x=Path('a/y'))
    for cfg in ({}, dict(data_root=None, ann_file='')):
        found = source(kind='unknown', **cfg)
        assert found.root == Path() and found.ann_file is None and found.folders == {}


@pytest.mark.parametrize('cfg, folders', [
    (dict(), dict(img_path=Path('pictures'))), (dict(data_prefix='a'), dict(img_path=Path('a'))),
    (dict(data_prefix='', split='val'), dict(img_path=Path('val'))),
    (dict(data_prefix='a', split='val'), dict(img_path=Path('a')))])
def test_prefixes_of_the_libraries(cfg, folders):
    assert source(**cfg).folders == folders


@pytest.mark.parametrize('prefix, images', [
    (dict(img='a', img_path='b'), 'a'), (dict(img_path='b'), 'b'), (dict(seg='c'), None)])
def test_the_folder_of_images(prefix, images):
    assert source(data_prefix=prefix).images == (images and Path(images))


@pytest.mark.parametrize('cfg, remote', [
    (dict(data_root='s3://a'), True), (dict(backend_args=dict(backend='petrel')), True),
    (dict(data_root='/a'), False), (dict(data_root=None, backend_args=None), False)])
def test_remote_files(cfg, remote):
    assert source(**cfg).is_remote is remote


@pytest.mark.parametrize('kind, ann_file, is_coco', [
    (CocoDataset, 'a.txt', True), (CocoDataset, None, False),
    (CocoPanopticDataset, 'a.json', False), (Base, 'a.json', False),
    ('unknown', 'a.json', True), ('unknown', 'a.txt', False)])
def test_boxes_in_cocos_format(kind, ann_file, is_coco):
    assert source(kind, ann_file=ann_file).is_coco is is_coco


@pytest.mark.parametrize('pipeline, ignores', [
    (None, False), ([], False), ([dict(type='A')], False),
    ([dict(color_type='color'), 'a step', dict(color_type='color_ignore_orientation')], True),
    ([dict(color_type='color_ignore_orientation'), dict()], True)])
def test_images_as_stored(pipeline, ignores):
    assert source(pipeline=pipeline).ignores_exif is ignores


def test_annotations_are_replaced_in_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = dict(type=Base, ann_file='a.json', data_root='b')
    Source(cfg, None).replace_annotations(Path('c.json'))
    assert cfg['ann_file'] == str(tmp_path / 'c.json')


def test_options_are_the_configs_or_the_classes():
    assert source(test_mode=None).option('test_mode') is None
    assert source().option('test_mode') is False and source(CocoDataset).option('test_mode') is True
    assert source(CocoDataset).option('data_prefix') == dict(img_path='pictures')  # of its base
    assert source().option('needed') is None and source().option('other') is None
    assert source('unknown', needed=3).option('needed') == 3
    assert source('unknown').option('test_mode') is None


def test_the_classes():
    assert source().classes == ('base', )
    assert source(metainfo=dict(classes=['a', 'b'])).classes == ('a', 'b')
    for nothing in (None, {}, dict(classes=()), dict(palette=[]), 'a file'):
        assert source(metainfo=nothing).classes == ('base', )
        assert source(Segmentation, metainfo=nothing).classes is None
    assert source(CocoPanopticDataset).classes is None and source('unknown').classes is None
    with pytest.raises(ValueError, match=r"is the string 'cat': .* such as \('cat', \)$"):
        source(metainfo=dict(classes='cat'))


def test_types_are_names_of_a_scope_or_classes(monkeypatch):
    asked = []
    monkeypatch.setattr(DATASETS, 'get', lambda name: asked.append(name) or CocoDataset)
    for kind, scope in (('A', 'mmdet'), ('mmseg.A', 'mmdet'), ('A', None), ('A', '')):
        found = source(kind, scope, ann_file='a.json')
        assert found.type == kind and found.is_coco
    assert asked == ['mmdet.A', 'mmseg.A', 'A', 'A']
    assert source(CocoDataset, 'mmdet').type == 'CocoDataset' and len(asked) == 4


@pytest.mark.parametrize('indices, expected', [
    (None, [0, 1, 2, 3, 4]), (2, [0, 1]), (0, []), (-2, [3, 4]), ([3, 0], [3, 0])])
def test_samples_of_mmsegmentation(indices, expected):
    found = source(Segmentation, _scope_='mmseg', needed=1, indices=indices, pipeline=['step'])
    samples = found.samples()
    assert [sample['i'] for sample in samples] == expected
    assert all(sample['pipeline'] == [] and sample['lazy_init'] is True and sample['needed'] == 1
               and '_scope_' not in sample and 'type' not in sample for sample in samples)
    assert source().samples() is None and source('unknown').samples() is None


def test_all_samples_without_indices():
    assert len(source(Segmentation, needed=1).samples()) == 5


@pytest.mark.parametrize('pipeline, loads', [
    (None, False), ([dict(type='mmdet.LoadAnnotations')], False), ([dict()], False),
    ([dict(type='A'), dict(type='LoadAnnotations')], True),
    ([dict(type='mmseg.LoadAnnotations'), dict(type='A')], True)])
def test_label_maps_are_read_by_mmsegmentation(pipeline, loads):
    assert source(pipeline=pipeline).loads_labels() is loads


def test_what_is_missing_is_named_once(tmp_path):
    (tmp_path / 'img').mkdir()
    found = source(data_root=str(tmp_path), ann_file='a.json',
                   data_prefix=dict(img='img', seg='maps', more='maps'))
    assert found.missing() == [tmp_path / 'a.json', tmp_path / 'maps']
    assert source(data_root=str(tmp_path), data_prefix=dict(img='img')).missing() == []
    assert source(data_root='nowhere', data_prefix={}).missing() == [Path('nowhere')]


def test_advice_is_that_of_the_data_set():
    elsewhere = source().advice()
    assert elsewhere == ('  If the data are elsewhere: --cfg-options data_root=DIR moves all paths '
                         "below the config's data_root.")
    for kind, name in (('CocoDataset', 'coco'), ('PascalVOCDataset', 'voc12aug'),
                       ('ADE20KDataset', 'ade20k')):
        assert source(type(kind, (), {})).advice() == (
            f'  {DOWNLOADS[name]}\n  python tools/prepare_data.py {name} --check-only\n'
            '  says what to download and where to put it; without --check-only it unpacks.\n'
            + elsewhere)
