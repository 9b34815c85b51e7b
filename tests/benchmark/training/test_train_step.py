"""The training benchmarks, on nets with known results."""

import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn
from toy_classifier import ToyClassifier, toy_config

from mobileone_mm.backbones import MobileOneBlock
from mobileone_mm.benchmark.training.data_time import measure_loop
from mobileone_mm.benchmark.training.engine_turns import compare_engines, median_ratio
from mobileone_mm.benchmark.training.train_step import (
    build,
    format_row,
    format_titles,
    measure,
    peak_memory,
    saved_bytes,
)
from mobileone_mm.branches import choose
from mobileone_mm.branches.plain import folded_conv


class Exp(nn.Module):

    def forward(self, x):
        return x.exp()


def test_the_plain_net_has_one_convolution_and_norm_a_block():
    net = build('s1', 'plain')
    blocks = [m for m in net.modules() if isinstance(m, MobileOneBlock)]
    convs = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert convs == norms == len(blocks) == 43
    x = torch.randn(2, 3, 32, 32)
    assert net.training and net(x).shape == build('s1', 'auto')(x).shape


def test_saved_bytes_counts_each_storage_once_and_no_parameters():
    x = torch.randn(4, 8)
    # the first layer keeps only x, which does not count; exp keeps its output, which the second
    # layer keeps too
    net = nn.Sequential(nn.Linear(8, 16), Exp(), nn.Linear(16, 2))
    assert saved_bytes(net, x) == 4 * 16 * 4
    assert saved_bytes(net.eval(), x) == 4 * 16 * 4
    with torch.no_grad():
        assert saved_bytes(net, x) == 0


def test_nets_are_measured_relative_to_the_first(monkeypatch):
    def built(arch, net):
        if net == 'timm':
            raise ImportError
        width = dict(plain=8, auto=16)[net]
        return nn.Sequential(nn.Conv2d(3, width, 3), Exp()).train()

    monkeypatch.setattr('mobileone_mm.benchmark.training.train_step.build', built)
    threads = torch.get_num_threads()
    try:
        measured = measure('s1', ['plain', 'timm', 'auto'], batch_size=2, image_size=10, rounds=3)
    finally:
        torch.set_num_threads(threads)
    assert list(measured) == ['plain', 'auto']  # timm is not installed
    plain, auto = measured.values()
    assert plain['ratio'] == plain['saved_ratio'] == 1 and auto['saved_ratio'] == 2
    assert plain['saved_mb'] == pytest.approx(2 * 8 * 8 * 8 * 4 / 1e6)
    assert plain['ms'] > 0 and auto['ratio'] > 0


def test_the_table_is_the_documented_one():
    nets, measured = ['plain', 'timm', 'auto'], {
        'plain': dict(ms=100., ratio=1., saved_mb=7.6, saved_ratio=1., peak_mb=50.),
        'auto': dict(ms=123.4, ratio=1.234, saved_mb=15.2, saved_ratio=2., peak_mb=75.)}
    titles, line = format_titles(nets, 'CPU', False).splitlines()
    assert titles == ('|  | threads | plain, CPU ms | timm, time | auto, time | plain, saved MB | '
                      'timm, memory | auto, memory |')
    row = format_row('s1', 2, nets, measured, False)
    assert row == '| S1 | 2 | 100 | - | 1.23 | 8 | - | 2.00 |'
    assert line.count('|') == titles.count('|') == row.count('|')
    assert format_titles(nets, 'CPU', True).splitlines()[0].endswith(
        '| plain, peak MB | timm, peak MB | auto, peak MB |')
    assert format_row('s1', 2, nets, measured, True).endswith('| 2.00 | 50 | - | 75 |')


def test_an_unknown_net_is_an_error():
    with pytest.raises(ValueError):
        measure('s1', ['plain', 'fast'], rounds=1)


@pytest.mark.parametrize('arch, most', [('s0', .60), ('s1', .83)])
@pytest.mark.parametrize('passes', ['compiled', 'torch'])
def test_what_auto_keeps_for_the_backward_pass(arch, most, passes, monkeypatch):
    """The bytes that docs/fast-training.md states, at their image and batch size."""
    if passes == 'compiled':
        pytest.importorskip('numba')
    else:
        monkeypatch.setattr(choose, 'usable', lambda x: False)
        monkeypatch.setattr(folded_conv, 'usable', lambda x: False)
    x = torch.randn(8, 3, 224, 224)
    plain, auto, textbook = (saved_bytes(build(arch, net), x)
                             for net in ('plain', 'auto', 'textbook'))
    assert auto / plain < most
    assert textbook / plain > 1.2  # to notice a missing engine


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_peak_memory_holds_what_the_backward_pass_keeps():
    saved = saved_bytes(build('s1', 'plain'), torch.randn(4, 3, 160, 160)) / 1e6
    assert saved > 50
    assert .7 * saved < peak_memory('s1', 'plain', 4, 160, 1) < 10 * saved


@pytest.fixture
def calls(monkeypatch):
    """The inputs and the branch engines of each forward pass of a toy classifier."""
    found, forward = [], ToyClassifier.forward

    def traced(self, inputs, labels=None, mode='tensor'):
        found.append((inputs, {m.branch_engine for m in self.modules()
                               if isinstance(m, MobileOneBlock)}))
        return forward(self, inputs, labels, mode)

    monkeypatch.setattr(ToyClassifier, 'forward', traced)
    return found


def test_engines_take_turns_within_one_training(tmp_path, calls):
    seconds = compare_engines(Config(toy_config(tmp_path)), ('textbook', 'analytic'), rounds=4)
    engines = [engine for _, engine in calls]
    assert engines == [{'textbook'}, {'analytic'}] * 5  # the first turn is not counted
    assert {engine: len(times) for engine, times in seconds.items()} == dict(
        textbook=4, analytic=4)
    assert all(time > 0 for times in seconds.values() for time in times)
    assert not list(tmp_path.glob('*.pth'))
    assert median_ratio([2., 9., 4.], [1., 3., 4.]) == 2


def test_loop_and_bare_steps_take_turns(tmp_path, calls):
    times = measure_loop(Config(toy_config(tmp_path)), rounds=2, iterations=3)
    bare = [inputs is calls[0][0] for inputs, _ in calls]  # all bare steps see the first batch
    one_round = [False] * 4 + [True] * 3  # the first of the loop's is not measured
    assert bare == [True, True, *one_round, *one_round]
    assert len(times.ratios) == 2 and min(times.ratios) > 0 and times.workers == 0
    assert 0 < times.data < times.loop and times.bare > 0
