"""Stops by any signal, in training and in validation, lose no iteration."""

import os
import signal

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from toy_runs import build, files, train

from mobileone_mm.engine import find_checkpoint

RARELY = {'default_hooks.checkpoint': dict(type='CheckpointHook', interval=3, save_best=None)}


class Kill(Hook):
    """Sends a signal to its own process within an iteration."""

    def __init__(self, number, validation):
        self.number, self.validation = number, validation

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not self.validation and runner.iter == 4:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.validation and runner.epoch == 2 and batch_idx == 1:
            os.kill(os.getpid(), self.number)


def _stopped(work_dir, number, validation, **kwargs):
    with pytest.raises(SystemExit) as stop:
        train(work_dir, hooks=[Kill(number, validation)], **kwargs)
    assert stop.value.code == 128 + number


def _assert_same(one, other):
    for key, value in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[key], value), key
    averaged, expected = (
        next(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))
        for runner in (other, one))
    for key, value in expected.state_dict().items():
        assert torch.equal(averaged.state_dict()[key], value), key


AVERAGED = dict(ema=True, hook=True, max_epochs=3, options=RARELY)


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    return train(tmp_path_factory.mktemp('whole'), **AVERAGED)


@pytest.mark.parametrize('number, validation', [
    (signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGHUP, False)])
def test_a_stop_loses_nothing(tmp_path, expected, number, validation):
    _stopped(tmp_path / 'cut', number, validation, **AVERAGED)
    assert list(files(tmp_path / 'cut')) == ['interrupted.pth']
    checkpoint = find_checkpoint(tmp_path / 'cut')
    meta = torch.load(checkpoint, weights_only=False)['meta']
    assert (meta['epoch'], meta['iter']) == ((2, 6) if validation else (1, 5))
    _assert_same(expected, train(tmp_path / 'cut', checkpoint, **AVERAGED))


def test_a_crash_in_a_validation_loses_nothing_either(tmp_path):
    class Crash(Hook):
        def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise MemoryError

    with pytest.raises(MemoryError):
        train(tmp_path, hook=False, hooks=[Crash()], options=RARELY)
    assert list(files(tmp_path)) == ['interrupted.pth']


def test_a_checkpoint_of_the_epoch_is_not_saved_twice(tmp_path):
    _stopped(tmp_path, signal.SIGTERM, True, hook=False)
    assert 'interrupted.pth' not in files(tmp_path) and 'epoch_2.pth' in files(tmp_path)
    runner = train(tmp_path, find_checkpoint(tmp_path), hook=False)
    assert 'interrupted.pth' not in files(tmp_path) and runner.epoch == 2


def test_nohup_keeps_its_promise(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        runner = train(tmp_path, hook=False, hooks=[Kill(signal.SIGHUP, False)])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert runner.epoch == 2


def test_a_validation_on_its_own_saves_nothing(tmp_path):
    build(tmp_path, hook=False, options=RARELY).val()
    assert not files(tmp_path)
