"""Compare rounding errors of the analytic engine with those of the textbook branches."""

import copy
import subprocess
import sys

import pytest
import torch
from engine_utils import mean_drift, randomize, run, set_engine

from mobileone_mm.backbones import MobileOneBlock

BLOCKS = dict(
    pointwise=dict(in_channels=48, out_channels=48, kernel_size=1),
    depthwise=dict(in_channels=48, out_channels=48, kernel_size=3, groups=48),
    strided=dict(in_channels=48, out_channels=48, kernel_size=3, groups=48, stride=2),
    stem=dict(in_channels=3, out_channels=48, kernel_size=3, stride=2))


def errors(name, k, x, context=None):
    """Root mean square errors of output, input and weight gradients in float32, by engine."""
    torch.manual_seed(0)
    block = randomize(MobileOneBlock(**BLOCKS[name], num_conv_branches=k, act_cfg=None))
    exact = run(set_engine(copy.deepcopy(block).double(), 'textbook'), x.double())
    result = {}
    for engine in ('textbook', 'analytic'):
        def forward(module, t):
            with context() if context else torch.enable_grad():
                return module(t)

        rounded = run(set_engine(copy.deepcopy(block), engine), x, forward)
        kinds = {}
        for key, value in exact.items():
            if key.endswith('num_batches_tracked') or key.endswith('scale.conv.weight'):
                continue
            assert torch.isfinite(rounded[key]).all(), f'{engine} {key}'
            error = (rounded[key].double() - value).square().mean().sqrt() / value.std().clamp_min(
                1e-3 * value.abs().max())
            kind = 'output' if key.startswith('output') else key.rsplit('.', 1)[-1]
            kinds[kind] = max(kinds.get(kind, 0.), float(error))
        result[engine] = kinds
    return result


@pytest.mark.parametrize('offset', [0, 1.9, 10, 100, 1000])
@pytest.mark.parametrize('k', [1, 4])
@pytest.mark.parametrize('name', BLOCKS)
def test_float32_error(name, k, offset, passes):
    """At most twice the textbook's, or rounding noise."""
    x = torch.randn(4, BLOCKS[name]['in_channels'], 20, 20) + offset
    found = errors(name, k, x)
    for kind, error in found['analytic'].items():
        assert error <= 2 * found['textbook'][kind] + 2e-6, (kind, found)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('k', [1, 4])
@pytest.mark.parametrize('name', BLOCKS)
def test_autocast_error(name, k, dtype):
    """Results are finite, and outputs as accurate as the textbook's, within 5 %."""
    x = torch.randn(4, BLOCKS[name]['in_channels'], 12, 12) + 1
    x = x.to(dtype)  # as every block but the stem gets it
    found = errors(name, k, x, lambda: torch.autocast('cpu', dtype))
    assert found['analytic']['output'] <= 1.05 * found['textbook']['output'], found


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_the_bias_takes_back_what_rounding_the_kernel_does(dtype):
    """It is 44 steps and more with the bias of the kernel before it was rounded."""
    assert mean_drift(dtype) < 2


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_sums_do_not_overflow(dtype):
    x = (torch.full((2, 48, 32, 32), 200.) + torch.randn(2, 48, 32, 32)).to(dtype)
    found = errors('pointwise', 2, x, lambda: torch.autocast('cpu', dtype))
    assert set(found) == {'textbook', 'analytic'}


@pytest.mark.parametrize('name', BLOCKS)
@pytest.mark.parametrize('k', [1, 2])
def test_variances_are_never_negative(name, k, passes):
    """A constant input, and filters that nearly cancel a large one."""
    torch.manual_seed(0)
    block = set_engine(randomize(MobileOneBlock(**BLOCKS[name], num_conv_branches=k)), 'analytic')
    with torch.no_grad():
        for branch in block.rbr_conv:
            branch.conv.weight -= branch.conv.weight.mean((1, 2, 3), keepdim=True)
            branch.bn.running_var.zero_()
    channels = BLOCKS[name]['in_channels']
    for x in (torch.full((2, channels, 8, 8), 1e4), 1e4 + torch.randn(2, channels, 8, 8)):
        assert torch.isfinite(block(x)).all()
        for key, value in block.named_buffers():
            assert not key.endswith('running_var') or (value >= 0).all(), key


CRASH = """
import torch
from mobileone_mm.backbones import MobileOne
net = MobileOne('s0', branch_engine={engine!r}).to(memory_format=torch.channels_last)
x = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
net(x)[0].sum().backward()
assert torch.isfinite(x.grad).all()
print('alive')
"""


@pytest.mark.parametrize('engine', ['textbook', 'analytic'])
def test_channels_last_does_not_kill_the_process(engine):
    done = subprocess.run([sys.executable, '-c', CRASH.format(engine=engine)], capture_output=True,
                          text=True)
    assert done.returncode == 0 and 'alive' in done.stdout, done.stderr[-2000:]
