"""Which data sets of a config are checked for what; classes stand for those of the libraries."""

from pathlib import Path

import pytest
from coco_samples import write_sample
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from mobileone_mm.datasets.preflight import check, check_classes, check_data
from mobileone_mm.datasets.preflight.source import Source
from mobileone_mm.utils.errors import PreflightError


class CocoDataset:
    def __init__(self, filter_cfg=None, test_mode=False):
        raise NotImplementedError


class Files:
    """Files in another format."""

    def __init__(self, data_prefix={}):
        raise NotImplementedError


def config(**options):
    """A config of data loaders, given as data sets, and other options."""
    loaders = {f'{key}_dataloader': dict(dataset=options.pop(key))
               for key in ('train', 'val', 'test') if key in options}
    return ConfigDict(**{'default_scope': 'mmdet', **loaders, **options})


def coco(path, classes=('box', 'disc'), **options):
    return dict(type=CocoDataset, ann_file=str(path), metainfo=dict(classes=classes),
                data_prefix=dict(img=str(path.parent / 'img')), **options)


def message(cfg, *loaders):
    with pytest.raises(PreflightError) as caught:
        check_data(cfg, *loaders)
    return str(caught.value)


def test_an_empty_config_has_no_problem():
    assert check_data(config()) == check.DataCheck([], None)
    assert check_data(config(train_dataloader=None, val_evaluator=None)).train_samples is None


def test_samples_are_those_of_training(tmp_path):
    train = coco(write_sample(tmp_path / 'a'), filter_cfg=dict(filter_empty_gt=True))
    val = coco(write_sample(tmp_path / 'b', num_images=1))
    both = dict(type='ConcatDataset', datasets=[train, dict(type='RepeatDataset', times=3,
                                                            dataset=val)])
    assert check_data(config(train=both, val=val)).train_samples == 5
    assert check_data(config(train=both, val=val), ['val']).train_samples is None
    other = dict(type='ConcatDataset', datasets=[train, dict(type=Files)])
    assert check_data(config(train=other)).train_samples is None  # not known


def test_loaders_are_those_that_are_used(tmp_path):
    missing = dict(type=Files, data_root=str(tmp_path / 'absent'))
    for loader in ('train', 'val'):
        assert 'absent' in message(config(**{loader: missing}))
    check_data(config(test=missing))
    assert 'absent' in message(config(test=missing), ['test'])
    check_data(config(train=missing), ['test'])


def test_all_problems_are_listed(tmp_path):
    good = write_sample(tmp_path)
    (tmp_path / 'bad.json').write_text('{')
    sets = [dict(type=Files, data_root='s3://remote'),
            dict(type=Files, data_root=str(tmp_path / 'a')),
            dict(type=CocoDataset, data_root=str(tmp_path / 'b'), ann_file='c.json'),
            coco(tmp_path / 'bad.json'), coco(good, ('box', 'cat'))]
    cfg = config(train=dict(type='ConcatDataset', datasets=sets),
                 model=dict(bbox_head=dict(num_classes=3)), val_evaluator=[
                     dict(type='A', ann_file=str(tmp_path / 'd.json')),
                     dict(type='B', ann_file='s3://e.json'), dict(type='C'),
                     dict(type='D', ann_file=str(good)),
                     dict(type='E', ann_file=str(tmp_path / 'a'))])
    lines = message(cfg).split('\n')
    assert lines[0].startswith(f'model.bbox_head.num_classes=3, but the data set of {tmp_path}/bad')
    assert lines[1].startswith(f'{tmp_path}/bad.json: not complete JSON')
    assert lines[2].startswith(f'model.bbox_head.num_classes=3, but the data set of {good} has 2 '
                               'classes (box, cat)')
    assert lines[3].startswith(f'{good}: its 2 categories (box, disc) do not match')
    assert lines[4] == 'these files and folders do not exist: ' + ', '.join(
        str(tmp_path / name) for name in ('a', 'b', 'b/c.json', 'd.json'))
    assert [line.strip().partition(' ')[0] for line in lines[5:]] == [
        'If', 'COCO', 'python', 'says', 'If']


def test_the_same_is_said_once(tmp_path):
    absent = dict(type=Files, data_root=str(tmp_path / 'a'))
    lines = message(config(train=absent, val=absent)).split('\n')
    assert len(lines) == 2 and lines[0].count(str(tmp_path)) == 1


@pytest.mark.parametrize('loader', ['train', 'val'])
def test_label_maps_are_checked_where_there_are_any(tmp_path, monkeypatch, loader):
    seen = []
    monkeypatch.setattr(check, 'label_map_problems', lambda source, training: (
        seen.append((source.type, training)) or ['label maps']))
    maps = dict(type=Files, data_prefix=dict(seg_map_path=str(tmp_path)))
    images = dict(type=Files, data_prefix=dict(img_path=str(tmp_path)))
    assert message(config(**{loader: maps})) == 'label maps'
    seen.clear()
    counted = dict(maps, metainfo=dict(classes=('a', )))
    assert message(config(**{loader: counted}, model=dict(num_classes=2))).endswith('\nlabel maps')
    check_data(config(**{loader: images}))
    assert seen == [('Files', loader == 'train')]


def test_settings_of_segmentors_come_last(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(check, 'segmentor_problems', lambda cfg, training: (
        seen.append((cfg, training)) or ['settings']))
    cfg = config(default_scope='mmseg', train=dict(type=Files))
    assert message(cfg) == message(cfg, ['test']) == 'settings'
    assert [training for _, training in seen] == [True, False] and seen[0][0] is cfg
    check_data(config(train=dict(type=Files)))
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'a')
    assert message(cfg).startswith('these files') and len(seen) == 2


def _flat(content):
    content['annotations'][0]['bbox'][2] = 0


def test_a_repaired_copy_is_used_by_data_set_and_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, other = write_sample(tmp_path, _flat), write_sample(tmp_path, name='other.json')
    metrics = [dict(type='A', ann_file='ann.json'), dict(type='B', ann_file=str(other)),
               dict(type='C'), dict(type='D', ann_file='s3://x.json'),
               dict(type='E', ann_file=str(path))]
    cfg = config(val=coco(path), val_evaluator=metrics, work_dir='work')
    notes = check_data(cfg).notes
    copy, = (tmp_path / 'work/annotations').iterdir()
    assert cfg.val_dataloader.dataset.ann_file == str(copy)
    assert [metric.get('ann_file') for metric in cfg.val_evaluator] == [
        f'work/annotations/{copy.name}', str(other), None, 's3://x.json',
        f'work/annotations/{copy.name}']
    assert notes == [f'{path}: 1 boxes without width or height (left out): repaired in the copy '
                     f'work/annotations/{copy.name}, in use now',
                     f'val_evaluator.ann_file is {other}, but the images are those of {path}']


def test_a_repair_needs_a_work_dir(tmp_path):
    assert 'needs a work_dir' in message(config(val=coco(write_sample(tmp_path, _flat))))


def test_notes_of_training(tmp_path):
    path, other = write_sample(tmp_path, _flat), write_sample(tmp_path, name='other.json')
    cfg = config(train=coco(path), train_evaluator=dict(type='A', ann_file=str(other)))
    note, = check_data(cfg).notes
    assert note.startswith(f'{path}: training leaves out 1 of 4 boxes')
    cfg = config(train=coco(path), val=coco(path), work_dir=str(tmp_path / 'work'))
    first, second = check_data(cfg).notes
    assert first == note and 'repaired in the copy' in second


@pytest.mark.parametrize('evaluators, labeled', [
    (None, True), ([], True), (dict(type='CocoMetric'), True),
    (dict(type='CocoMetric', format_only=True), False),
    ([dict(type='DumpDetResults')], True),
    ([dict(type='DumpDetResults'), dict(type='CocoMetric', format_only=True)], False),
    ((dict(type='CocoMetric'), dict(type='CocoMetric', format_only=True)), True)])
def test_labels_are_needed_unless_results_are_only_written(tmp_path, evaluators, labeled):
    path = write_sample(tmp_path, lambda content: content.pop('annotations'))
    for loader in ('val', 'train'):
        cfg = config(**{loader: coco(path), f'{loader}_evaluator': evaluators})
        if labeled or loader == 'train':
            assert 'needs the lists' in message(cfg)
        else:
            check_data(cfg)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_all_loaders_have_the_classes_of_training(scope, monkeypatch):
    monkeypatch.setattr(check, 'segmentor_problems', lambda *args: [])

    def data(*classes):
        return dict(type=Files, metainfo=dict(classes=classes))
    cfg = config(default_scope=scope, train=data('a', 'b'), val=data('a', 'b'), test=data('b', 'a'))
    check_data(cfg)
    if scope == 'mmpretrain':
        check_data(cfg, ['test'])
        return
    assert message(cfg, ['test']) == (
        'test_dataloader has the classes (b, a), training has (a, b): give both the same, in the '
        'same order' + ('. The categories of annotation files are matched by name'
                        if scope == 'mmdet' else ''))
    for part in ('train', 'test'):
        check_data(config(default_scope=scope, **{
            'train': data('a', 'b'), 'test': data('b', 'a'), part: dict(type=Files)}), ['test'])


def test_classes_of_a_checkpoint():
    same = dict(type=Files, metainfo=dict(classes=('a', 'b')))
    other = dict(type=Files, metainfo=dict(classes=('b', 'a')))
    unknown = dict(type=Files)
    cfg = config(val=dict(type='ConcatDataset', datasets=[unknown, same]))
    check_classes(cfg, 'val', ['a', 'b'], 'x.pth')
    check_classes(cfg, 'test', ['b', 'a'], 'x.pth')
    check_classes(cfg, 'val', (), 'x.pth')
    cfg.val_dataloader.dataset.datasets.append(other)
    with pytest.raises(PreflightError) as caught:
        check_classes(cfg, 'val', ['a', 'b'], 'x.pth')
    assert str(caught.value).startswith(
        'x.pth was trained with the classes (a, b), but the val_dataloader has (b, a): give it')


def test_data_sets_are_those_of_the_configs_library(monkeypatch):
    named = {f'mmdet.{name}': type(name, (Files, ), dict(METAINFO=dict(classes=classes)))
             for name, classes in (('AB', ('a', 'b')), ('BA', ('b', 'a')))}
    monkeypatch.setattr(DATASETS, 'get', named.get)
    cfg = config(train=dict(type='AB'), val=dict(type='AB'), model=dict(num_classes=3))
    assert message(cfg) == 'model.num_classes=3, but the data set of . has 2 classes (a, b)'
    cfg = config(train=dict(type='AB'), val=dict(type='BA'))
    assert message(cfg).startswith('val_dataloader has the classes (b, a), training has (a, b)')
    with pytest.raises(PreflightError):
        check_classes(cfg, 'val', ('a', 'b'), 'x.pth')


def test_every_number_of_classes_in_a_model():
    model = dict(num_classes=1, backbone=dict(num_classes=None), rpn_head=dict(num_classes=2),
                 heads=[dict(num_classes=3), (dict(a=dict(num_classes=4)), 'text', 5)])
    assert list(check._num_classes(model, 'model')) == [
        ('model.num_classes', 1), ('model.heads[0].num_classes', 3),
        ('model.heads[1][0].a.num_classes', 4)]


@pytest.mark.parametrize('options, origin', [
    (dict(ann_file='x.json', data_prefix=dict(img='i'), data_root='r'), 'r/x.json'),
    (dict(data_prefix=dict(img='i', seg='s'), data_root='r'), 'r/i'), (dict(data_root='r'), 'r')])
def test_the_number_of_classes_is_that_of_the_data(options, origin):
    source = Source(dict(type=Files, metainfo=dict(classes='abcdefg'.split('d')), **options), None)
    cfg = dict(model=dict(a=dict(num_classes=2), b=dict(num_classes=3)))
    assert check._class_count_problems(source, cfg) == [
        f'model.b.num_classes=3, but the data set of {Path(origin)} has 2 classes (abc, efg)']
    assert check._class_count_problems(source, {}) == []
    assert check._class_count_problems(Source(dict(type=Files), None), cfg) == []
