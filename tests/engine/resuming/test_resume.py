"""A stopped and resumed run computes what the uninterrupted run computes."""

import os
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS, RUNNERS, TRANSFORMS
from torch import nn

import mobileone_mm  # noqa: F401
from mobileone_mm.engine import find_checkpoint, is_whole, make_resumable


@DATASETS.register_module()
class _Numbers(BaseDataset):

    def load_data_list(self):
        return [dict(x=float(i)) for i in range(10)]


@TRANSFORMS.register_module()
class _AddNoise:

    def __call__(self, results):
        return dict(inputs=torch.tensor([results['x'] + np.random.randn()], dtype=torch.float32))


@MODELS.register_module()
class _Regressor(BaseModel):

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.net(torch.stack(inputs) / 10).square().mean())


@HOOKS.register_module()
class _Recorder(Hook):
    """Keeps the loss of each iteration, and sends a signal after one of them."""

    def __init__(self, losses, stop_at=None):
        self.losses, self.stop_at = losses, stop_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = outputs['loss'].item()
        if runner.iter == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def _run(work_dir, workers, stop_at=None, resume=None, batch_size=2, hooks=()):
    cfg = Config(dict(
        model=dict(type='_Regressor'),
        work_dir=str(work_dir),
        experiment_name=f'{work_dir.name}-{stop_at}-{resume is None}-{batch_size}',
        train_dataloader=dict(
            batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='_Numbers', pipeline=[dict(type='_AddNoise')])),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=15, by_epoch=False),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)),
        custom_hooks=[dict(type='EMAHook')],
        default_scope='mmengine', log_level='ERROR',
        randomness=dict(seed=None if resume else 7)))  # resumed: the checkpoint's seed
    if resume:
        cfg.update(resume=True, load_from=str(resume))
    make_resumable(cfg)
    losses = {}
    runner = RUNNERS.build(cfg)
    for hook in (_Recorder(losses, stop_at), *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except SystemExit as stop:
        assert stop.code == 128 + signal.SIGTERM
    return losses, runner.model.state_dict()


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_within_an_epoch_continues_the_same_loss_curve(tmp_path, workers):
    whole, weights = _run(tmp_path / 'whole', workers)
    assert len(whole) == 15 and len(set(whole.values())) == 15
    first, _ = _run(tmp_path / 'cut', workers, stop_at=6)
    assert list(first) == list(range(7))  # stopped after the second iteration of epoch 2
    checkpoint = find_checkpoint(tmp_path / 'cut')
    assert checkpoint.name == 'interrupted.pth'
    rest, resumed_weights = _run(tmp_path / 'cut', workers, resume=checkpoint)
    assert {**first, **rest} == whole and list(rest) == list(range(7, 15))
    for name, value in weights.items():
        torch.testing.assert_close(resumed_weights[name], value, rtol=0, atol=0)


def test_losses_do_not_depend_on_the_number_of_workers(tmp_path):
    assert _run(tmp_path / 'a', 0)[0] == _run(tmp_path / 'b', 2)[0]


def test_each_iteration_seeds_the_gpus_and_no_sample_does(tmp_path, monkeypatch):
    """GPUs' random numbers depend on the iteration, not on how often samples are made."""
    seeds = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    losses, _ = _run(tmp_path, workers=0)
    by_runner = [seed for seed in seeds if seed == 7]
    assert len(seeds) - len(by_runner) == len(set(seeds)) - 1 == len(losses) == 15


def test_a_truncated_checkpoint_is_never_picked_up(tmp_path):
    _run(tmp_path, 0)
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_3.pth']
    whole = tmp_path / 'epoch_3.pth'
    content = whole.read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 1):
        broken = tmp_path / 'epoch_4.pth'
        broken.write_bytes(content[:size])
        assert not is_whole(broken)
        assert find_checkpoint(tmp_path) == whole
    for place in (len(content) // 2, content.rindex(b'data.pkl')):  # a record, the directory
        flipped = bytearray(content)
        flipped[place] ^= 255
        broken.write_bytes(flipped)
        assert find_checkpoint(tmp_path) == whole


def test_the_old_checkpoint_outlives_a_crash_while_the_new_one_is_written(tmp_path, monkeypatch):
    save = torch.save
    calls = []

    def crash_on_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OSError('no space left on device')
        save(*args, **kwargs)

    monkeypatch.setattr(torch, 'save', crash_on_second)
    with pytest.raises(OSError, match='no space'):
        _run(tmp_path, 0)
    assert find_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'


def test_make_resumable_does_nothing_twice():
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(type='_Numbers')),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook'))))
    make_resumable(cfg)
    once = cfg.to_dict()
    make_resumable(cfg)
    assert cfg.to_dict() == once
    assert 'SyncStatisticsHook' not in str(once)


def test_a_config_without_checkpoint_hook_gets_mmengines_default():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='_Numbers')),
                      train_cfg=dict(by_epoch=True, max_epochs=1)))
    make_resumable(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='AtomicCheckpointHook', interval=1)
    without = Config(dict(cfg, default_hooks=dict(checkpoint=None)))
    make_resumable(without)
    assert without.default_hooks.checkpoint is None


def test_several_processes_share_their_statistics():
    cfg = Config(dict(
        launcher='pytorch', train_dataloader=dict(dataset=dict(type='_Numbers')),
        train_cfg=dict(by_epoch=True, max_epochs=1)))
    make_resumable(cfg)
    assert [hook['type'] for hook in cfg.custom_hooks].count('SyncStatisticsHook') == 1


@pytest.mark.parametrize('batch_size', [5, 1])
def test_another_batch_size_restarts_the_epoch_and_still_logs_the_time_left(tmp_path, batch_size):
    _run(tmp_path, 0, stop_at=6)
    times = []

    class Watch(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            times.append(runner.message_hub.get_info('eta'))

    losses, _ = _run(tmp_path, 0, resume=find_checkpoint(tmp_path), batch_size=batch_size,
                     hooks=[Watch()])
    length = 10 // batch_size
    assert list(losses) == list(range(length, 3 * length))  # the first of three epochs is done
    assert len(times) == 2 * length and min(times) >= 0 and max(times) < 3600
