"""Signals as a terminal sets them."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _hangups_end_processes():
    """``nohup`` makes its children ignore SIGHUP, and a training respects that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
