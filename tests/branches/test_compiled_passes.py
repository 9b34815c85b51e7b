"""The compiled passes with threads, with many planes, and without numba."""

import sys

import pytest
import torch
from engine_utils import assert_same, both, randomize, run, set_engine

from mobileone_mm.backbones import MobileOneBlock
from mobileone_mm.branches.compiled import available


@pytest.fixture
def fresh():
    available._has_numba.cache_clear()
    yield
    available._has_numba.cache_clear()


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('cfg', [
    dict(kernel_size=1), dict(kernel_size=3, groups=12), dict(kernel_size=3, groups=12, stride=2)])
def test_threads_share_the_channels(cfg, k, two_threads, monkeypatch):
    pytest.importorskip('numba')
    block = set_engine(randomize(MobileOneBlock(12, 12, num_conv_branches=k, **cfg)), 'analytic')
    block = block.double()
    x = torch.randn(4, 12, 20, 30, dtype=torch.float64)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    monkeypatch.setenv('OMP_WAIT_POLICY', 'passive')
    monkeypatch.setattr(available, 'MIN_ELEMENTS_PER_THREAD', 1 << 40)
    alone = run(block, x)
    block.load_state_dict(state)
    block.zero_grad()
    monkeypatch.setattr(available, 'MIN_ELEMENTS_PER_THREAD', 1)
    shared = run(block, x)
    assert available._pool.cache_info().currsize
    for name, value in alone.items():
        # What kernels compute is the same to the bit; torch's products are split differently.
        torch.testing.assert_close(shared[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('offset', [0, 5])
@pytest.mark.parametrize('cfg, elements', [
    (dict(), 336), (dict(), 100), (dict(stride=2), 100), (dict(dilation=2), 400)])
def test_more_planes_than_a_group(cfg, elements, offset, k, monkeypatch):
    """The passes reload what has left the cache; the last group is smaller."""
    pytest.importorskip('numba')
    from mobileone_mm.branches import choose as engine
    from mobileone_mm.branches.compiled.kernels import planes
    monkeypatch.setattr(engine, 'LARGE_MAP', (0, 0))
    monkeypatch.setattr(planes, 'GROUP_ELEMENTS', elements)
    planes.layout.cache_clear()
    block = MobileOneBlock(3, 3, 3, groups=3, num_conv_branches=k, **cfg).double()
    x = torch.randn(5, 3, 9, 11, dtype=torch.float64) + offset
    assert_same(both(randomize(block), x), block, 1e-9)
    planes.layout.cache_clear()


@pytest.mark.parametrize('policy, k, name', [
    ('passive', 1, 'CompiledTaps'), ('', 1, 'FusedBranches'), ('', 2, 'CompiledDense')])
def test_choice_with_several_threads(policy, k, name, two_threads, monkeypatch):
    pytest.importorskip('numba')
    monkeypatch.setenv('OMP_WAIT_POLICY', policy)
    block = MobileOneBlock(6, 6, 1, num_conv_branches=k).train()
    y = block(torch.randn(2, 6, 8, 8, requires_grad=True))
    assert y.grad_fn.name().startswith(name)


def test_only_plain_maps_on_a_cpu():
    pytest.importorskip('numba')
    x = torch.zeros(1, 2, 3, 3)
    assert available.usable(x) and available.usable(x.double())
    assert not available.usable(x.half())
    assert not available.usable(x.to(memory_format=torch.channels_last))
    assert not available.usable(x.to('meta'))


def test_without_numba(monkeypatch, fresh):
    monkeypatch.setattr(available, 'find_spec', lambda name: None)
    assert not available.usable(torch.zeros(1, 2, 3, 3))


def test_numba_that_does_not_import(monkeypatch, fresh):
    pytest.importorskip('numba')
    monkeypatch.setattr(available, 'find_spec', lambda name: True)
    monkeypatch.setitem(sys.modules, 'numba', None)
    with pytest.warns(UserWarning, match='numba is installed but does not import'):
        assert not available.usable(torch.zeros(1, 2, 3, 3))
