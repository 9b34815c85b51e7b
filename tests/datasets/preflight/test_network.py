"""Batches of one image and mismatched sizes are found on the built network."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel, ExponentialMovingAverage
from torch import nn

from mobileone_mm.datasets.preflight import check_network
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
