"""Stages of growing resolution and strength, with persistent workers, resumed within a stage."""

import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS, RUNNERS, TRANSFORMS
from torch import nn

from mobileone_mm.commands.bn_statistics import TrainingBatches
from mobileone_mm.engine import find_checkpoint, make_resumable
from mobileone_mm.engine.hooks import ProgressiveLearningHook

STAGES = [dict(epoch=1, resolution=8, strength=0.3), dict(epoch=2, resolution=12, strength=0.7),
          dict(epoch=4, resolution=16, strength=1.)]
KEYS = dict(resolution_keys=dict(_Crop='scale'), strength_keys=dict(_Noise='level'))
PIPELINE = [dict(type='_Crop', scale=(16, 16)), dict(type='_Noise', level=2.)]


@DATASETS.register_module()
class _Images(BaseDataset):

    def load_data_list(self):
        return [dict(seed=i) for i in range(6)]


@TRANSFORMS.register_module()
class _Crop:

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, results):
        generator = torch.Generator().manual_seed(results['seed'])
        return dict(inputs=torch.randn(3, *self.scale, generator=generator))


@TRANSFORMS.register_module()
class _Noise:

    def __init__(self, level):
        self.level = level

    def __call__(self, results):
        noise = self.level * torch.randn(results['inputs'].shape)
        return dict(inputs=results['inputs'] + noise, level=self.level)


@MODELS.register_module()
class _Pooled(BaseModel):

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, inputs, level=None, mode='tensor'):
        return dict(loss=self.net(torch.stack(inputs)).mean((2, 3)).square().mean())


class _Recorder(Hook):

    def __init__(self, seen, stop_at):
        self.seen, self.stop_at = seen, stop_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        shapes = {tuple(image.shape[1:]) for image in data_batch['inputs']}
        levels = {float(level) for level in data_batch['level']}
        self.seen[runner.iter] = shapes, levels, outputs['loss'].item()
        if runner.iter == self.stop_at:
            signal.raise_signal(signal.SIGTERM)


def _config(work_dir, workers=0, dataset=None, **hook):
    cfg = Config(dict(
        model=dict(type='_Pooled'),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2, num_workers=workers, persistent_workers=workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dataset or dict(type='_Images', pipeline=PIPELINE)),
        train_cfg=dict(by_epoch=True, max_epochs=5),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=5)),
        custom_hooks=[dict(type='ProgressiveLearningHook', **{
            'stages': STAGES, **KEYS, **hook})],
        log_level='ERROR',
        randomness=dict(seed=3)))
    make_resumable(cfg)
    return cfg


def _run(cfg, stop_at=None, resume=False):
    cfg.experiment_name = f'{cfg.work_dir}-{stop_at}-{resume}'
    if resume:
        cfg.update(resume=True, load_from=str(find_checkpoint(cfg.work_dir)))
    runner, seen = RUNNERS.build(cfg), {}
    runner.register_hook(_Recorder(seen, stop_at))
    try:
        runner.train()
    except SystemExit:
        assert stop_at is not None
    return seen


@pytest.mark.parametrize('workers', [0, 1])
def test_every_epoch_has_its_stage_also_when_resumed_within_it(tmp_path, workers):
    whole = _run(_config(tmp_path / 'whole', workers))
    assert len(whole) == 15 and len({loss for *_, loss in whole.values()}) == 15
    for step, (shapes, levels, _) in whole.items():
        side, level = {0: (8, .6), 1: (12, 1.4), 2: (12, 1.4), 3: (16, 2.), 4: (16, 2.)}[step // 3]
        assert shapes == {(side, side)} and sorted(levels) == pytest.approx([level])
    first = _run(_config(tmp_path / 'cut', workers), stop_at=7)  # within epoch 3, of stage 2
    assert find_checkpoint(tmp_path / 'cut').name == 'interrupted.pth'
    rest = _run(_config(tmp_path / 'cut', workers), resume=True)
    assert list(rest) == list(range(8, 15)) and {**first, **rest} == whole


def test_wrapped_and_concatenated_data_sets(tmp_path):
    one = dict(type='_Images', pipeline=PIPELINE)
    nested = dict(type='ConcatDataset', datasets=[one, dict(type='RepeatDataset', dataset=one,
                                                            times=1)])
    seen = _run(_config(tmp_path, dataset=nested))
    assert {frozenset(shapes) for step, (shapes, *_) in seen.items() if step >= 18} == {
        frozenset({(16, 16)})}
    assert {frozenset(shapes) for step, (shapes, *_) in seen.items() if step < 6} == {
        frozenset({(8, 8)})}


def test_forms_of_resolution_and_nested_transforms():
    hook = ProgressiveLearningHook([dict(epoch=1, resolution=96, strength=.5)])
    pipeline = [dict(type='mmpretrain.RandomResizedCrop', scale=224),
                dict(type='Resize', scale=(320, 320), keep_ratio=False),
                dict(type='RandomApply', prob=1., transforms=[
                    dict(type='RandAugment', magnitude_level=7)])]
    changed, count = hook.pipeline_of(pipeline, hook.stages[0])
    assert count == 4 and changed[0]['scale'] == 96 and changed[1]['scale'] == (96, 96)
    assert changed[2]['prob'] == .5 and changed[2]['transforms'][0]['magnitude_level'] == 3.5
    assert pipeline[0]['scale'] == 224 and pipeline[2]['prob'] == 1., 'the config must stay'


@pytest.mark.parametrize('stages, message', [
    ([], 'at least one'),
    ([dict(epoch=2, resolution=8)], 'epoch 1'),
    ([dict(epoch=1, resolution=8), dict(epoch=1, resolution=9)], 'rising'),
    ([dict(epoch=1)], 'resolution or strength'),
    ([dict(epoch=1, resolution=8), dict(epoch=2, strength=1.)], 'the same'),
    ([dict(epoch=1, resolution=0)], 'positive'),
    ([dict(epoch=1, resolution='big')], 'positive'),
    ([dict(epoch=1, strength=-1.)], 'negative')])
def test_malformed_stages(stages, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='ProgressiveLearningHook', stages=stages))


@pytest.mark.parametrize('hook, message', [
    (dict(resolution_keys=dict(Elsewhere='scale')), 'takes the resolution'),
    (dict(strength_keys={}), 'takes the strength'),
    (dict(stages=[*STAGES, dict(epoch=6, resolution=20, strength=1.)]), 'ends with epoch 5')])
def test_stages_without_effect_are_refused(tmp_path, hook, message):
    with pytest.raises(ValueError, match=message):
        _run(_config(tmp_path, **hook))


def test_statistics_are_estimated_on_the_last_stage():
    hook = dict(type='ProgressiveLearningHook', stages=STAGES[:2], **KEYS)
    cfg = Config(dict(custom_hooks=[hook], train_dataloader=dict(
        batch_size=2, dataset=dict(type='_Images', pipeline=PIPELINE),
        sampler=dict(type='DefaultSampler', shuffle=True))))
    batch = next(iter(TrainingBatches(cfg, 1)))
    assert batch['inputs'][0].shape == (3, 12, 12) and float(batch['level'][0]) == 1.4
    assert cfg.train_dataloader.dataset.pipeline == PIPELINE
