"""Count the kernels that a block launches, and how often it moves its maps."""

import collections
from typing import Dict, List
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')

from engine_utils import randomize, set_engine  # noqa: E402

from mobileone_mm.backbones import MobileOneBlock  # noqa: E402
from mobileone_mm.branches import choose  # noqa: E402
from mobileone_mm.branches.triton import depthwise_kernels  # noqa: E402

BLOCKS = dict(
    depthwise=dict(kernel_size=3, groups=128), pointwise=dict(kernel_size=1),
    single=dict(kernel_size=3, groups=128, num_conv_branches=1))


class Recorder(TorchDispatchMode):
    """Count the values that operators and Triton kernels read and write; kernels do not run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: List[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and 'empty' not in name and name != 'detach':
            self.calls.append((name, sizes([args, result])))
        return result

    def launch(self, kernel, *args, grid, warmup, **kwargs):
        self.calls.append((kernel.__name__, sizes(args)))


def sizes(values) -> List[int]:
    """Elements of each tensor, once if it is passed twice; keeps no tensor alive."""
    found = {id(v): v for v in torch.utils._pytree.tree_leaves(values)
             if isinstance(v, torch.Tensor)}
    return [v.numel() for v in found.values()]


@pytest.fixture
def record(monkeypatch):
    """A function that runs a block forward and backward and returns the calls."""
    monkeypatch.setattr(choose, '_uses_triton', lambda block, x: True)

    def apply(block: torch.nn.Module, x: torch.Tensor) -> Recorder:
        x.requires_grad_()
        recorder = Recorder()

        def launch(kernel, *args, **kwargs):
            recorder.launch(kernel, *args, **kwargs)

        with mock.patch.object(type(depthwise_kernels.moments), 'run', launch):
            with recorder:
                y = block(x)
            grad = torch.ones_like(y)
            with recorder:
                y.backward(grad)
        return recorder
    return apply


def passes(recorder: Recorder, x: torch.Tensor) -> Dict[str, int]:
    """How often a whole map is read or written, by operator or kernel.

    ``sample_mean`` gets the map, but reads only 256 of its positions.
    """
    found: Dict[str, int] = collections.Counter()
    for name, moved in recorder.calls:
        if name == 'sample_mean':
            continue
        found[name] += sum(size >= x.numel() for size in moved)
    return +found


@pytest.mark.parametrize('name', BLOCKS)
def test_at_most_ten_passes_and_sixteen_kernels(name, record):
    """The textbook branches of S0 need 113 passes, a plain convolution with norm and ReLU 18."""
    block = set_engine(randomize(MobileOneBlock(128, 128, **{'num_conv_branches': 4,
                                                             **BLOCKS[name]})), 'analytic')
    x = torch.zeros(4, 128, 64, 64)
    recorder = record(block, x)
    assert sum(passes(recorder, x).values()) <= 10, passes(recorder, x)
    assert len(recorder.calls) <= 16, [name for name, _ in recorder.calls]


def test_the_count_sees_the_textbook(record, monkeypatch):
    """By the same count, the branches one by one need far more."""
    block = set_engine(randomize(MobileOneBlock(128, 128, 3, groups=128, num_conv_branches=4)),
                       'textbook')
    x = torch.zeros(4, 128, 64, 64)
    recorder = record(block, x)
    assert sum(passes(recorder, x).values()) > 50 and len(recorder.calls) > 30
