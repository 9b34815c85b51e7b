"""Runs that are stopped by signals to the whole process group lose nothing."""

import os
import signal
import time

import pytest

from mobileone_mm.engine import find_checkpoint

pytest.importorskip('mmdet')
from tiny_detector import fork, losses, write_config  # noqa: E402


def _wait(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), f'training ended with {process.exitcode}'
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.001)


def test_stop_sent_twice_to_the_whole_group_saves_the_iteration(tmp_path):
    config, work_dir = write_config(tmp_path, num_train=64), tmp_path / 'run'
    process = fork(config, work_dir)
    _wait(lambda: len(losses(work_dir)) >= 2, process)
    os.kill(process.pid, signal.SIGTERM)  # as coreutils' timeout: the process, then its group
    os.killpg(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert [path.name for path in work_dir.glob('*.pth')] == ['interrupted.pth']
    assert find_checkpoint(work_dir) == work_dir / 'interrupted.pth'
