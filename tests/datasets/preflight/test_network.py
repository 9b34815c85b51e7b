"""Batches of one image and mismatched sizes are found on the built network."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel, ExponentialMovingAverage
from torch import nn

from mobileone_mm.datasets.preflight import check_network, network
from mobileone_mm.engine.hooks.freeze_norm_hook import FreezeNormHook
from mobileone_mm.utils.libraries import PreflightError


class Pooled(BaseModel):
    """A batch norm after pooling, as in DeepLabV3, and one on a map."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 8), nn.BatchNorm2d(4))
        self.decode_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.decode_head(self.extract_feat(inputs))


def runner(batch_size=2, size=(32, 32), val_size=(32, 32), hooks=(), world_size=1, **loader):
    def dataloader(scale):
        step = dict(type='Resize', scale=scale, keep_ratio=False)
        return ConfigDict(batch_size=batch_size, dataset=dict(
            type='RepeatDataset', dataset=dict(pipeline=[step, dict(type='Pack')])), **loader)
    cfg = ConfigDict(default_scope='mmdet', train_dataloader=dataloader(size),
                     val_dataloader=dataloader(val_size))
    return SimpleNamespace(cfg=cfg, model=Pooled(), hooks=list(hooks), world_size=world_size,
                           _train_dataloader=cfg.train_dataloader)


@pytest.mark.parametrize('samples, world_size, drops', [
    (5, 1, True), (4, 1, False), (None, 1, False), (9, 3, True), (8, 2, False)])
def test_a_last_batch_of_one(samples, world_size, drops):
    run = runner(world_size=world_size)
    notes = check_network(run, samples)
    assert run._train_dataloader.get('drop_last', False) is drops and bool(notes) is drops
    assert run.model.training


def test_a_batch_sampler_drops_it_itself():
    run = runner(batch_sampler=dict(type='AspectRatioBatchSampler'))
    check_network(run, 5)
    assert run._train_dataloader.batch_sampler.drop_last
    assert 'drop_last' not in run._train_dataloader  # torch refuses both


def test_endless_samplers_have_no_last_batch():
    assert not check_network(runner(sampler=dict(type='InfiniteSampler')), 5)


@pytest.mark.parametrize('options, samples', [(dict(batch_size=1), 8), (dict(), 1)])
def test_batches_of_one_are_refused(options, samples):
    run = runner(**options)
    with pytest.raises(PreflightError, match=r'1 batch norms .*decode_head\.1'):
        check_network(run, samples)
    # torch itself agrees
    with pytest.raises(ValueError, match='Expected more than 1 value per channel'):
        run.model.train()(next(run.model.parameters()).new_zeros(1, 3, 32, 32))


def test_frozen_norms_take_batches_of_one():
    assert not check_network(runner(batch_size=1, hooks=[FreezeNormHook(['decode_head'])]), 8)
    with pytest.raises(PreflightError):
        check_network(runner(batch_size=1, hooks=[FreezeNormHook(['backbone'])]), 8)


@pytest.mark.parametrize('wrap', [torch.compile, ExponentialMovingAverage])
def test_wrapped_models_keep_their_names(wrap):
    run = runner(batch_size=1, hooks=[FreezeNormHook(['decode_head'])])
    run.model = wrap(run.model)
    assert not check_network(run, 8)


def test_mismatched_pipelines_are_reported():
    note, = check_network(runner(val_size=(64, 64)), 4)
    assert 'training resizes images to (32, 32), validation to (64, 64)' in note


def test_pipelines_without_one_size_are_no_mismatch():
    assert not check_network(runner(val_size=(.5, 1.)), 4)
    run = runner(val_size=(64, 64))
    run.cfg.default_scope = 'mmseg'  # which validates whole images
    assert not check_network(run, 4)
    assert not check_network(runner(size=(.5, 1.), batch_size=1), 4)


RESIZE = dict(type='Resize', scale=(32, 24))


@pytest.mark.parametrize('steps, size', [
    ([RESIZE], (32, 24)), ([dict(RESIZE, scale=32)], (32, 32)), ([dict(type='Resize')], None),
    ([dict(RESIZE, keep_ratio=True)], None), ([RESIZE, dict(RESIZE, type='Flip')], (32, 24)),
    ([dict(RESIZE, scale=9), RESIZE, dict(type='Resize', scale=5, keep_ratio=True)], (32, 24)),
    ([RESIZE, dict(type='RandomCrop', crop_size=[16, 8])], (16, 8)),
    ([dict(type='CenterCrop', crop_size=16, scale=9)], (16, 16)), ([], None), (None, None),
    ([dict(RESIZE, scale=(32, .5))], None), ([dict(RESIZE, scale=[(32, 24), (64, 48)])], None)])
def test_the_size_at_the_end_of_a_pipeline(steps, size):
    dataset = dict(pipeline=steps)
    for wrapped in (dataset, dict(dataset=dataset), dict(dataset=dict(dataset=dataset))):
        assert network._input_size(dict(dataset=wrapped)) == size
    assert network._input_size(dict(dataset=dict(pipeline=[dict(RESIZE, scale=9)],
                                                 dataset=dataset))) == (9, 9)


def test_data_sets_without_a_pipeline():
    for loader in (None, {}, dict(dataset=None), dict(dataset=dict(dataset=[RESIZE]))):
        assert network._input_size(loader) is None


class Boxes(nn.Module):
    """A model that predicts on two maps, and keeps what it sees."""

    def __init__(self, outputs=lambda maps: (maps, maps[:1])):
        super().__init__()
        self.norm, self.frozen, self.seen = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval(), []
        self.norm.double()
        self.bbox_head = nn.Module()
        self.bbox_head.forward = lambda maps: outputs(maps)
        self.decode_head = None

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def extract_feat(self, x):
        self.seen.append((x, self.norm.training, torch.is_grad_enabled()))
        pooled = self.norm(x.mean((2, 3), keepdim=True))
        self.frozen(pooled.float())
        return [self.norm(x), x[..., ::2]]


def test_a_blank_picture_of_the_training_size_is_run_in_eval_mode():
    model = Boxes()
    assert network._trace(model, (6, 4)) == (['norm'], [(4, 6), (4, 3)])
    (x, training, grads), = model.seen
    assert x.shape == (1, 3, 4, 6) and x.dtype == torch.float64 and not x.any()
    assert not training and not grads
    assert model.training and model.norm.training and not model.frozen.training
    assert not model.norm._forward_pre_hooks and model.norm.num_batches_tracked == 0


def test_anchors_are_compared_with_these_maps():
    run = runner()
    run.model = Boxes()
    run.model.bbox_head.prior_generator = SimpleNamespace(strides=[(1, 1), (2, 1)])
    assert not check_network(run, 4)
    run.model.bbox_head.prior_generator.strides[1] = (4, 1)
    assert check_network(run, 4)[0].startswith('the anchors do not fit an input of 32x32: level 1 ')


def test_heads_without_maps():
    assert network._trace(Boxes(lambda maps: maps[0]), (6, 4)) == (['norm'], [])
    model = Boxes()
    del model.bbox_head, model.decode_head
    assert network._trace(model, (6, 4)) == (['norm'], [])


def test_other_models_are_left_alone():
    assert network._trace(nn.Conv2d(3, 3, 1), (6, 4)) is None

    def fail(maps):
        raise KeyError
    model = Boxes(fail)
    assert network._trace(model, (6, 4)) is None
    assert model.norm.training and not model.norm._forward_pre_hooks
    run = runner(val_size=(64, 64))
    run.model = model
    assert len(check_network(run, 5)) == 1 and 'drop_last' not in run._train_dataloader


def test_what_batches_of_one_are_told():
    with pytest.raises(PreflightError, match='^train_dataloader.batch_size=1: one image is too few '
                                             'for the 1 batch norms .*such as decode_head.1'):
        check_network(runner(batch_size=1), 1)
    with pytest.raises(PreflightError, match='^3 training images for 4 processes: one image'):
        check_network(runner(world_size=4), 3)
    with pytest.raises(PreflightError, match='^train_dataloader.batch_size=1: '):
        check_network(runner(batch_size=1), None)


@pytest.mark.parametrize('batch_size, samples, drops', [(3, 7, True), (3, 8, False), (8, 5, False)])
def test_what_is_left_of_an_epoch(batch_size, samples, drops):
    run = runner(batch_size=batch_size, sampler=dict(type='DefaultSampler'))
    assert len(check_network(run, samples)) == drops
    assert run._train_dataloader.get('drop_last') is (True if drops else None)


def anchors(strides=(), sides=(), kind='SSDAnchorGenerator'):
    """A model whose head has centers of these strides and anchors of these sides."""
    boxes = [torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in level]) for level in sides]
    generator = type(kind, (), dict(strides=strides, base_anchors=boxes))()
    return SimpleNamespace(bbox_head=SimpleNamespace(prior_generator=generator))


@pytest.mark.parametrize('cells, stride, side, fits', [
    (2, 16, 32, True), (2, 16, 40, True), (1, 16, 40, False),  # at most half a cell is not covered
    (3, 16, 33, True), (3, 16, 32, False),  # each cell begins within the image
    (1, 16, 16, True), (1, 16, 15, False)])  # no cell is larger
@pytest.mark.parametrize('axis', [0, 1])
def test_centers_of_anchors_cover_the_input(axis, cells, stride, side, fits):
    def pair(value, other):
        return (other, value) if axis else (value, other)

    model = anchors([pair(stride, 8)], kind='MlvlPointGenerator')
    width, height = pair(cells, 4)
    notes = network._anchor_notes(model, [(height, width)], pair(side, 32))
    assert bool(notes) is not fits


def test_the_note_names_the_first_level_that_does_not_fit():
    model = anchors([(16, 8), (32, 16), (64, 32)], kind='MlvlPointGenerator')
    assert not network._anchor_notes(model, [(4, 4), (2, 2), (1, 1)], (64, 32))
    note, = network._anchor_notes(model, [(4, 4), (2, 1), (1, 2)], (64, 32))
    assert note.startswith('the anchors do not fit an input of 64x32: level 1 has 1x2 cells of '
                           'stride 32, which do not cover it. ')


def test_other_heads_have_no_anchors_to_check():
    assert not network._anchor_notes(SimpleNamespace(), [(4, 4)], (320, 320))
    assert not network._anchor_notes(anchors([(16, 16)]), [(4, 4), (2, 2)], (320, 320))


@pytest.mark.parametrize('side, fits', [(159, False), (160, True), (400, True), (404, False)])
def test_the_largest_anchor_fits_the_longer_side(side, fits):
    sides = [[(10, 10), (20, 20)], [(side / 2, side * 2), (8, 9)]]  # its area counts
    notes = network._anchor_notes(anchors(sides=sides), [], (320, 300))
    assert notes == [] if fits else f'the largest anchor has {side} pixels' in notes[0]
    assert not network._anchor_notes(anchors(sides=sides, kind='AnchorGenerator'), [], (320, 300))
