"""Cores that other programs use are left to them."""

import pytest
import torch

from mobileone_mm.utils import busy_cores as module
from mobileone_mm.utils.busy_cores import busy_cores, leave_busy_cores


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def fake(monkeypatch, *ticks):
    monkeypatch.setattr(module, '_ticks', iter(ticks).__next__)
    monkeypatch.setattr(module.os, 'cpu_count', lambda: 4)
    monkeypatch.setattr(module.time, 'sleep', lambda seconds: None)


@pytest.mark.parametrize('busy, threads', [(0, 4), (12, 4), (24, 3), (50, 2), (100, 1)])
def test_a_thread_less_for_each_busy_core(monkeypatch, busy, threads):
    """``busy`` percent of the four cores."""
    fake(monkeypatch, (1000, 9000), (1000 + busy, 9100))
    assert leave_busy_cores() == threads == torch.get_num_threads()


def test_the_environment_decides(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    fake(monkeypatch, (0, 0), (100, 100))
    assert leave_busy_cores() == 4 == torch.get_num_threads()


def test_without_proc_all_cores_count_as_free(monkeypatch):
    def missing():
        raise FileNotFoundError('/proc/stat')

    monkeypatch.setattr(module, '_ticks', missing)
    assert busy_cores() == 0 and leave_busy_cores() == 4


@pytest.mark.parametrize('nice, busy', [(0, 30), (50, 30)])
def test_programs_of_low_priority_do_not_count(monkeypatch, tmp_path, nice, busy):
    """They give way."""
    stat = tmp_path / 'stat'
    stat.write_text(f'cpu  20 {nice} 10 70 1 2 3 4 5 6\ncpu0 1 2 3 4 5 6 7 8 9 10\n')
    monkeypatch.setattr('builtins.open', lambda path, own=open: own(stat))
    assert module._ticks() == (busy, 110 + nice)
