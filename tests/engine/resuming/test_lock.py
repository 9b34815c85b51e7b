"""One training in a directory at a time."""

import errno
import multiprocessing
import os
import signal
import socket

import pytest

from mobileone_mm.engine import lock_directories
from mobileone_mm.engine.resuming import lock
from mobileone_mm.utils.libraries import PreflightError

fcntl = pytest.importorskip('fcntl')


def _hold(folder, ready):
    with lock_directories(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def owner(tmp_path):
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / 'run', ready))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_training_is_told_who_is_there(owner, tmp_path):
    with pytest.raises(PreflightError) as caught, lock_directories(tmp_path / 'run'):
        pass
    assert (f'{tmp_path / "run"} is in use by another training, process {owner.pid} on '
            f'{socket.gethostname()}, since 20') in str(caught.value)
    with lock_directories(tmp_path / 'other'):
        pass


def test_the_lock_of_a_killed_training_is_free(owner, tmp_path):
    owner.kill()
    owner.join()
    assert str(owner.pid) in (tmp_path / 'run' / lock.NAME).read_text()
    for _ in range(2):
        with lock_directories(tmp_path / 'run'):
            assert f'process {os.getpid()} ' in (tmp_path / 'run' / lock.NAME).read_text()


class Msvcrt:
    """Windows' module, by POSIX' means: it locks bytes from the file's position on."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor, mode, count):
        assert mode == Msvcrt.LK_NBLCK
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, 0, os.SEEK_CUR)


def test_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, 'fcntl', None)
    monkeypatch.setattr(lock, 'msvcrt', Msvcrt)
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(PreflightError, match=f'another training, process {process.pid} on'):
            with lock_directories(tmp_path):
                pass
    finally:
        process.kill()
        process.join()
    with lock_directories(tmp_path):
        assert f'process {os.getpid()} ' in (tmp_path / lock.NAME).read_text()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(lock.fcntl, 'lockf', refuse)
    with pytest.warns(UserWarning, match='cannot be locked .*No locks'), lock_directories(tmp_path):
        pass
