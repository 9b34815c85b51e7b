"""Fixtures shared by all tests."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

# Where the tools import from; after Python's own module `test`.
sys.path.append(str(Path(__file__).resolve().parents[1] / 'tools'))
SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _unformatted_configs(monkeypatch) -> None:
    """Skip yapf's formatting of dumped and logged configs, which takes a second each time."""
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, False),
                        raising=False)  # a fork of mmengine formats differently


@pytest.fixture(autouse=True)
def _no_default_scope() -> None:
    """Reset the default scope: later tests would look up models in that of an earlier run."""
    DefaultScope._instance_dict.clear()


@pytest.fixture
def shared_data():
    """A function that finds a data set's folder beside the checkout; skips without it."""
    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.is_dir():
            pytest.skip(f'the data set {name} is not at {folder}')
        return folder
    return find


@pytest.fixture
def randomize():
    """A function that sets all batch norms to statistics and parameters that reveal a wrong fold.

    A fresh batch norm (mean 0, variance 1, gamma 1, beta 0) hides mistakes: zeroing the folded
    bias would still pass.
    """
    def apply(module: nn.Module, var=(0.1, 2.0)) -> nn.Module:
        with torch.no_grad():
            for bn in module.modules():
                if isinstance(bn, _BatchNorm):
                    bn.running_mean.normal_()
                    bn.running_var.uniform_(*var)
                    if bn.affine:
                        bn.weight.uniform_(-1, 1)
                        bn.bias.normal_()
        return module
    return apply


@pytest.fixture
def run_tool(monkeypatch, pytestconfig):
    """A function that runs tools/NAME.py with arguments in this process; returns the status."""
    def run(name, *arguments):
        script = str(pytestconfig.rootpath / 'tools' / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            runpy.run_path(script, run_name='__main__')
        return status.value.code
    return run
