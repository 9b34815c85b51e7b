"""The real recipe (EMA, warm-up, mmdet's augmentations) resumes to the same losses and weights."""

import os
import shutil
import signal

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mobileone_mm.engine import find_checkpoint

pytest.importorskip('mmdet')
from tiny_detector import losses, run, write_config  # noqa: E402


@HOOKS.register_module()
class _StopAt(Hook):
    """Sends SIGTERM after an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


def _assert_equal(actual, expected, where=''):
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            _assert_equal(actual[key], expected[key], f'{where}.{key}')
    elif isinstance(expected, (list, tuple)):
        _assert_equal(dict(enumerate(actual)), dict(enumerate(expected)), where)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True, msg=where)
    else:
        assert actual == expected, where


def test_resumed_at_and_within_an_epoch_as_if_never_stopped(tmp_path):
    config = write_config(tmp_path, num_train=6)
    assert run(config, tmp_path / 'whole') == 0
    whole = losses(tmp_path / 'whole')
    assert list(whole) == list(range(1, 7)) and len(set(whole.values())) == 6

    (tmp_path / 'cut').mkdir()  # at an epoch's end; without a seed, the checkpoint's is used
    shutil.copy(tmp_path / 'whole' / 'epoch_1.pth', tmp_path / 'cut')
    stop = {'default_hooks.stop_at.type': '_StopAt', 'default_hooks.stop_at.iteration': 5}
    assert run(config, tmp_path / 'cut', '--resume', **stop) == 128 + signal.SIGTERM
    assert find_checkpoint(tmp_path / 'cut').name == 'interrupted.pth'
    assert losses(tmp_path / 'cut') == {step: whole[step] for step in (4, 5)}
    assert run(config, tmp_path / 'cut', '--resume') == 0
    assert losses(tmp_path / 'cut') == {step: whole[step] for step in (4, 5, 6)}

    resumed, expected = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)
                         for name in ('cut', 'whole'))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        _assert_equal(resumed[part], expected[part], part)
