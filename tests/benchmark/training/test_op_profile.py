"""The profile by operator, and the number of operators that the engine calls."""

from importlib.util import find_spec

import pytest
import torch

from mobileone_mm.backbones import MobileOneBlock
from mobileone_mm.benchmark.training.op_profile import format_profile, profile_step, summarize
from mobileone_mm.branches.compiled import has_cores_to_itself


@pytest.mark.parametrize('cfg, limit', [
    (dict(kernel_size=3, groups=16), 165),
    (dict(kernel_size=1), 130),
])
def test_operators_of_a_block(cfg, limit):
    """On small maps, the calls cost the time."""
    block = MobileOneBlock(16, 16, branch_engine='analytic', **cfg).train()
    rows = profile_step(block, torch.randn(2, 16, 8, 8, requires_grad=True), rounds=1)
    calls = {row.operator: row.calls for row in rows}
    assert calls['convolution'] >= 1 and calls['convolution_backward'] == 1
    assert sum(calls.values()) <= limit
    if find_spec('numba') is not None and has_cores_to_itself():
        assert calls['taps.forward'] == calls['taps.backward'] == 1
        assert summarize(rows)['compiled'] > 0


def test_profile_adds_up():
    net = torch.nn.Conv2d(3, 64, 3)
    rows = profile_step(net, torch.randn(2, 3, 64, 64), rounds=2)
    assert summarize(rows)['products'] > 0
    assert rows[0].size == '64x64' or rows[0].size == '62x62'
    text = format_profile(rows, top=1)
    step = float(text.splitlines()[-1].split('|')[-2])
    assert step == pytest.approx(sum(row.milliseconds for row in rows), abs=.06)
