"""Runs lose nothing if they are killed or if signals stop the whole process group."""

import os
import signal
import time
from functools import partial

import pytest

from mobileone_mm.engine import find_checkpoint

pytest.importorskip('mmdet')
from tiny_detector import fork, losses, run, write_config  # noqa: E402


def _wait(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), f'training ended with {process.exitcode}'
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.001)


def _is_saving(work_dir, process, existing):
    """Whether a checkpoint, but not the first of the run, is half written."""
    return (any(work_dir.glob(f'*.{process.pid}.tmp'))
            and set(work_dir.glob('epoch_*.pth')) - existing)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_stop_sent_twice_to_the_whole_group_saves_the_iteration(tmp_path, number):
    config, work_dir = write_config(tmp_path, num_train=64), tmp_path / 'run'
    process = fork(config, work_dir)
    _wait(lambda: len(losses(work_dir)) >= 2, process)
    os.kill(process.pid, number)  # like coreutils' timeout: first the process, then its group
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    assert [path.name for path in work_dir.glob('*.pth')] == ['interrupted.pth']
    assert find_checkpoint(work_dir) == work_dir / 'interrupted.pth'


def test_killed_while_saving(tmp_path):
    config, work_dir = write_config(tmp_path, num_train=2), tmp_path / 'run'
    often = {'train_cfg.max_epochs': 1000, 'train_cfg.val_interval': 1000,
             'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}
    before = None
    for _ in range(2):
        existing = set(work_dir.glob('epoch_*.pth'))
        process = fork(config, work_dir, '--resume', **often)

        _wait(partial(_is_saving, work_dir, process, existing), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        whole = find_checkpoint(work_dir)
        assert whole is not None and whole != before
        before = whole
    last = int(whole.stem.split('_')[1])
    options = {**often, 'train_cfg.max_epochs': last + 1, 'val_dataloader': None,
               'val_cfg': None, 'val_evaluator': None}
    assert run(config, work_dir, '--resume', **options) == 0
    assert find_checkpoint(work_dir).name == f'epoch_{last + 1}.pth'
    assert not any(work_dir.glob('*.tmp'))
    assert sorted(losses(work_dir)) == list(range(1, last + 2))
