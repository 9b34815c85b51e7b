"""Fixtures of the tests of export."""

import runpy
import sys

import pytest


@pytest.fixture
def run_tool(monkeypatch, pytestconfig):
    """A function that runs tools/NAME.py with arguments, in this process; returns its status."""
    def run(name, *arguments):
        script = str(pytestconfig.rootpath / 'tools' / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            runpy.run_path(script, run_name='__main__')
        return status.value.code
    return run
