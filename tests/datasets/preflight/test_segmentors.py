"""Settings of segmentors, with a class that stands for mmsegmentation's data sets."""

import pytest
from mmengine.registry import DATASETS

from mobileone_mm.datasets.preflight.segmentors import segmentor_problems


class Maps:
    """As many samples as its config says."""

    def __init__(self, count, **kwargs):
        self.count = count

    def get_label_map(self):
        raise NotImplementedError

    def load_data_list(self):
        return [{}] * self.count


def head(kind='ASPPHead', **options):
    return dict(dict(type=kind, num_classes=2, norm_cfg=dict(type='BN')), **options)


def config(decode_head=None, test_cfg=None, count=30, sync_bn=None, auxiliary=None, **loader):
    loader = dict(dict(batch_size=4, dataset=dict(type=Maps, count=count)), **loader)
    return dict(model=dict(decode_head=decode_head or head(), auxiliary_head=auxiliary,
                           test_cfg=test_cfg),
                train_dataloader=loader, default_scope='mmseg', sync_bn=sync_bn)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)


def test_configs_without_a_problem():
    assert segmentor_problems(config(), True) == []
    assert segmentor_problems({}, True) == []
    assert segmentor_problems(dict(model=None, train_dataloader=None), True) == []


@pytest.mark.parametrize('crop, stride, problem', [
    ((6, 9), (6, 9), None), ((6, 9), (1, 1), None),
    ((6, 9), (7, 9), 'stride=(7, 9) leaves pixels between windows of crop_size=(6, 9) unseen: '
                     'choose a stride of at most crop_size, such as (4, 6)'),
    ((6, 9), (6, 10), 'stride=(6, 10) leaves'), ((6, 9), (0, 9), 'stride=(0, 9) leaves'),
    (None, (1, 1), 'needs crop_size=(h, w) and stride'), ((1, 1), None, 'needs crop_size=(h, w)')])
def test_windows_cover_the_image(crop, stride, problem):
    found = segmentor_problems(
        config(test_cfg=dict(mode='slide', crop_size=crop, stride=stride)), False)
    assert len(found) == bool(problem) and (not problem or problem in found[0])
    assert not segmentor_problems(
        config(test_cfg=dict(mode='whole', crop_size=crop, stride=stride)), False)


SOFTMAX, SIGMOID = dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss', use_sigmoid=True)
DICE = dict(type='DiceLoss')


@pytest.mark.parametrize('losses, binary', [
    (None, False), (SOFTMAX, False), (SIGMOID, True), (DICE, True), ([SIGMOID, DICE], True),
    ([SIGMOID, SOFTMAX], False), ((SOFTMAX, DICE), False), (dict(DICE, use_sigmoid=False), False)])
def test_one_class_needs_losses_of_a_sigmoid(losses, binary):
    cfg = config(head(num_classes=1, loss_decode=losses))
    found = segmentor_problems(cfg, False)
    assert len(found) == (not binary)
    assert binary or found[0].startswith('model.decode_head.num_classes=1: the softmax over one')


def test_heads_are_named_and_the_first_with_one_class_is_reported():
    one = head(num_classes=1, loss_decode=SOFTMAX)
    for auxiliary, name in ((one, 'auxiliary_head'), ([head(), one], 'auxiliary_head[1]'),
                            ((one, one), 'auxiliary_head[0]')):
        found, = segmentor_problems(config(auxiliary=auxiliary), False)
        assert found.startswith(f'model.{name}.num_classes=1: ')
    found, = segmentor_problems(config([head(), one], auxiliary=one), False)
    assert found.startswith('model.decode_head[1].num_classes=1: ')
    problems = segmentor_problems(config(one, test_cfg=dict(mode='slide'), batch_size=1), True)
    assert [text.partition(' ')[0] for text in problems] == [
        "model.test_cfg.mode='slide'", 'model.decode_head.num_classes=1:',
        'train_dataloader.batch_size=1:']


@pytest.mark.parametrize('loader, problem', [
    (dict(batch_size=1), 'train_dataloader.batch_size=1: '),
    (dict(batch_size=2, dataset=dict(type=Maps, count=3)), '3 images in batches of 2: the last '),
    (dict(batch_size=29), '30 images in batches of 29: the last batch has one image: '),
    (dict(batch_size=29, drop_last=True), None),
    (dict(batch_size=29, sampler=dict(type='InfiniteSampler')), None),
    (dict(batch_size=29, sampler=dict(type='DefaultSampler')), '30 images in batches of 29'),
    (dict(batch_size=29, sampler=None), '30 images in batches of 29'),
    (dict(batch_size=28), None), (dict(batch_size=30), None), (dict(batch_size=31), None),
    (dict(batch_size=30, drop_last=True), None),
    (dict(batch_size=31, drop_last=True), 'the train_dataloader has 30 images and batch_size=31 '
                                          'with drop_last=True, so there is no batch: set '
                                          'train_dataloader.batch_size to at most 30, or repeat'),
    (dict(batch_size=31, drop_last=True, sampler=dict(type='InfiniteSampler')), None),
    (dict(batch_size=31, drop_last=True, dataset=None), None),  # the number is not known
    (dict(batch_size=31, drop_last=True, dataset=dict(type=dict, count=1)), None),
    (dict(batch_size=2, drop_last=True, dataset=dict(type=Maps, count=1)), 'so there is no batch'),
])
def test_batches_of_one_and_epochs_of_none(loader, problem):
    found = segmentor_problems(config(**loader), True)
    assert len(found) == bool(problem) and (not problem or found[0].startswith(problem)
                                            or problem in found[0])
    assert not segmentor_problems(config(**loader), False)
    if problem and 'drop_last' not in loader:
        assert "the batch norm of model.decode_head's pooled images needs 2 or more" in found[0]


def test_a_loader_without_a_batch_size_has_one():
    cfg = config()
    del cfg['train_dataloader']['batch_size']
    assert 'batch_size=1: the batch norm' in segmentor_problems(cfg, True)[0]


def test_data_sets_are_those_of_the_configs_library(monkeypatch):
    monkeypatch.setattr(DATASETS, 'get', dict({'mmseg.Named': Maps}).get)
    cfg = config(batch_size=29, dataset=dict(type='Named', count=30))
    assert '30 images in batches of 29' in segmentor_problems(cfg, True)[0]


@pytest.mark.parametrize('kind, pools', [
    ('ASPPHead', True), ('DeepLabV3Head', True), ('DepthwiseSeparableASPPHead', True),
    ('PSPHead', True), ('UPerHead', True), ('mmseg.ASPPHead', True), ('FCNHead', False),
    (type('PSPHead', (), {}), True)])
def test_only_heads_that_pool_need_two_images(kind, pools):
    assert len(segmentor_problems(config(head(kind), batch_size=1), True)) == pools
    assert not segmentor_problems(config(head(kind, norm_cfg=None), batch_size=1), True)
    found = segmentor_problems(config(head('FCNHead'), auxiliary=head(kind), batch_size=1), True)
    assert len(found) == pools and (not pools or "norm of model.auxiliary_head's" in found[0])


@pytest.mark.parametrize('processes, count, options, problem', [
    ('1', 30, dict(sync_bn='torch'), '30 images in batches of 29'),
    ('2', 58, dict(), None), ('2', 60, dict(), '30 images in batches of 29'),
    ('2', 59, dict(), '30 images in batches of 29'),  # each gets as many, the last one again
    ('2', 60, dict(sync_bn='torch'), None),
    ('2', 57, dict(drop_last=True), None), ('2', 56, dict(drop_last=True), 'has 28 images')])
def test_several_processes_share_the_images(monkeypatch, processes, count, options, problem):
    monkeypatch.setenv('WORLD_SIZE', processes)
    found = segmentor_problems(config(count=count, batch_size=29, **options), True)
    assert len(found) == bool(problem) and (not problem or problem in found[0])
