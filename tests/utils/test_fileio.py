"""atomic_path() leaves the complete new file or the old one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mobileone_mm.utils.fileio as fileio
from mobileone_mm.utils.fileio import atomic_path


def test_writes_and_replaces(tmp_path):
    target = tmp_path / 'a_deploy.pth'
    for text in ('old', 'new'):
        with atomic_path(target) as path:
            path.write_text(text)
            assert not list(tmp_path.glob('*.pth')) or target.read_text() == 'old'
    assert target.read_text() == 'new' and list(tmp_path.iterdir()) == [target]


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / 'a_deploy.pth'
    target.write_text('old')
    with pytest.raises(OSError), atomic_path(target) as path:
        path.write_text('half')
        raise OSError('disk full')
    assert target.read_text() == 'old' and list(tmp_path.iterdir()) == [target]


def test_a_kill_leaves_no_half_file(tmp_path):
    # The module alone, by path: importing the package would take seconds.
    script = f"""
import importlib.util, os, signal
spec = importlib.util.spec_from_file_location('fileio', {str(Path(fileio.__file__))!r})
fileio = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fileio)
with fileio.atomic_path('a_deploy.pth') as path:
    path.write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, check=False)
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob('*.pth'))
