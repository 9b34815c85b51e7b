"""Weight decay follows the cosine, norms and biases have none, and both survive a resume."""

import math
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner
from torch import nn
from toy_classifier import toy_config

from mobileone_mm.engine import find_checkpoint, make_resumable

EPOCHS, ITERS, DECAY = 4, 12, 1e-2
PARAMWISE = {
    'one group': {},
    'norms exempt': dict(norm_decay_mult=0.),
    'custom keys': dict(custom_keys=dict(neck=dict(lr_mult=10., decay_mult=2.)))}


@HOOKS.register_module()
class _Groups(Hook):
    """Keeps (lr, weight decay) of every parameter before each iteration."""

    priority = 'VERY_LOW'

    def __init__(self, seen, stop_at=None):
        self.seen, self.stop_at = seen, stop_at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        names = {id(p): name for name, p in runner.model.named_parameters()}
        self.seen[runner.iter] = {
            names[id(p)]: (group['lr'], group['weight_decay'])
            for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.stop_at:
            signal.raise_signal(signal.SIGTERM)


def _run(work_dir, paramwise, stop_at=None, resume=False, hook=True, **changes):
    cfg = toy_config(work_dir, hook=False, max_epochs=EPOCHS)
    cfg['experiment_name'] = f'{work_dir}-{stop_at}-{resume}-{hook}'
    cfg.update(log_level='ERROR', **changes)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):  # time
        del cfg[name]
    cfg['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=EPOCHS)
    cfg['optim_wrapper']['optimizer']['weight_decay'] = DECAY
    cfg['optim_wrapper']['paramwise_cfg'] = paramwise
    cfg.setdefault('param_scheduler', [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=0, convert_to_iter_based=True)])
    if hook:
        cfg['default_hooks']['weight_decay'] = dict(type='WeightDecayAnnealingHook')
    cfg = Config(cfg)
    make_resumable(cfg)
    if resume:
        cfg.update(resume=True, load_from=str(find_checkpoint(work_dir)))
    runner, seen = RUNNERS.build(cfg), {}
    runner.register_hook(_Groups(seen, stop_at))
    try:
        runner.train()
    except SystemExit:
        assert stop_at is not None
    return seen, {name: p.ndim for name, p in runner.model.named_parameters()}


def _initial(name, paramwise):
    return DECAY * (2 if 'custom_keys' in paramwise and name.startswith('neck') else 1)


@pytest.mark.parametrize('paramwise', PARAMWISE.values(), ids=PARAMWISE)
def test_cosine_for_weights_and_nothing_for_norms_and_biases(tmp_path, paramwise):
    seen, dims = _run(tmp_path, paramwise)
    plain, _ = _run(tmp_path / 'plain', paramwise, hook=False)
    assert list(seen) == list(range(ITERS)) and set(seen[0]) == set(dims)
    for step, values in seen.items():
        factor = 0.1 + 0.9 * (1 + math.cos(math.pi * step / ITERS)) / 2
        for name, (lr, decay) in values.items():
            if dims[name] <= 1:
                assert decay == 0, (step, name)
            else:
                assert decay == pytest.approx(_initial(name, paramwise) * factor, rel=1e-9)
            assert lr == plain[step][name][0], 'the learning rate must not change'
    assert any(dims[name] <= 1 for name in dims) and any(dims[name] > 1 for name in dims)


def test_resumed_within_an_epoch(tmp_path):
    paramwise = PARAMWISE['one group']
    whole, dims = _run(tmp_path / 'whole', paramwise)
    first, _ = _run(tmp_path / 'cut', paramwise, stop_at=4)
    rest, _ = _run(tmp_path / 'cut', paramwise, resume=True)
    assert list(first) == list(range(5)) and list(rest) == list(range(5, ITERS))
    assert {**first, **rest} == whole  # to the last bit
    assert all(values[name][1] == 0 for values in rest.values() for name in dims if dims[name] < 2)


def test_the_trap_that_the_hook_avoids(tmp_path):
    """mmpretrain's schedule with norm_decay_mult=0 and a common eta_min ends up decaying norms."""
    seen, dims = _run(tmp_path, dict(norm_decay_mult=0.), hook=False, param_scheduler=[dict(
        type='CosineAnnealingParamScheduler', param_name='weight_decay', eta_min=DECAY / 10,
        by_epoch=False)])
    gamma = 'backbone.stage0.rbr_conv.0.bn.weight'
    assert seen[0][gamma][1] == 0 and seen[ITERS - 1][gamma][1] > 0.09 * DECAY


@pytest.mark.parametrize('changes, message', [
    (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1, weight_decay=0.))), 'nothing'),
    (dict(param_scheduler=[dict(type='ConstantParamScheduler', param_name='weight_decay',
                                factor=.5, by_epoch=False)]), 'already')])
def test_refused_before_training(tmp_path, changes, message):
    cfg = toy_config(tmp_path, hook=False)
    cfg['optim_wrapper']['optimizer']['weight_decay'] = DECAY
    cfg.update(changes)
    cfg['default_hooks']['weight_decay'] = dict(type='WeightDecayAnnealingHook')
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(Config(cfg)).train()


def test_split_groups_keep_their_own_learning_rate():
    layers = [nn.Conv2d(2, 2, 1), nn.Linear(2, 2)]
    optimizer = torch.optim.SGD(
        [dict(params=layers[0].parameters(), lr=1.), dict(params=layers[1].parameters(), lr=3.)],
        lr=.5, weight_decay=DECAY)
    wrapper = OptimWrapper(optimizer)
    schedulers = [LinearLR(wrapper, start_factor=.2, by_epoch=False, end=4),
                  CosineAnnealingLR(wrapper, T_max=9, by_epoch=False)]
    schedulers = HOOKS.build(dict(type='WeightDecayAnnealingHook')).add_schedule(
        wrapper, schedulers, 9)
    for _ in range(9):
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
        values = {id(p): (g['lr'], g['weight_decay'])
                  for g in optimizer.param_groups for p in g['params']}
        (weight, bias), (weight3, bias3) = (
            [values[id(p)] for p in layer.parameters()] for layer in layers)
        assert weight[0] == bias[0] and weight3[0] == bias3[0]
        assert weight3[0] == pytest.approx(3 * weight[0])
        assert bias[1] == bias3[1] == 0 and weight[1] == weight3[1] > 0
    last = 0.1 + 0.9 * (1 + math.cos(math.pi * 8 / 9)) / 2
    assert weight[1] == pytest.approx(DECAY * last)


@pytest.mark.parametrize('ratio', [-.1, 1.5])
def test_ratio_is_checked(ratio):
    with pytest.raises(ValueError, match='within'):
        HOOKS.build(dict(type='WeightDecayAnnealingHook', min_ratio=ratio))
