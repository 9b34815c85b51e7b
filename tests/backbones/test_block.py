"""Compare a folded block with the unfolded one."""

import itertools

import pytest
import torch

from mobileone_mm import MobileOneBlock

TOLERANCE = 1e-12  # relative, float64


def fold_error(block, x):
    """Largest relative difference that folding makes to the block's output in eval mode."""
    with torch.no_grad():
        before = block.eval()(x)
        block.switch_to_deploy()
        after = block(x)
    return ((before - after).abs().max() / before.abs().max()).item()


CASES = [dict(kernel_size=k, stride=s, dilation=d, groups=g)
         for k, s, d, g in itertools.product([1, 3, 5], [1, 2], [1, 2, 3], [1, 2, 16])]


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
@pytest.mark.parametrize('case', CASES, ids=lambda c: '-'.join(map(str, c.values())))
def test_folding_is_exact(case, norm, randomize):
    block = MobileOneBlock(16, 16, num_conv_branches=2, norm_cfg=dict(type=norm), **case)
    randomize(block.double(), var=(1e-9, 2.0))
    assert fold_error(block, torch.randn(2, 16, 13, 10, dtype=torch.float64)) < TOLERANCE


@pytest.mark.parametrize('k', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('scale', [False, True])
@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('use_se', [False, True])
def test_folding_is_exact_for_any_branches(k, scale, skip, use_se, randomize):
    block = MobileOneBlock(16, 16, 3, groups=16, num_conv_branches=k, use_scale_branch=scale,
                           use_skip_branch=skip, use_se=use_se)
    assert sum(1 for _ in block.branches()) == k + scale + skip
    randomize(block.double())
    assert fold_error(block, torch.randn(2, 16, 8, 8, dtype=torch.float64)) < TOLERANCE


def test_the_test_sees_a_wrong_bias(randomize):
    """A mutant: a fold without its bias must fail."""
    block = randomize(MobileOneBlock(16, 16, 3).double()).eval()
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        before = block(x)
        block.switch_to_deploy()
        block.reparam_conv.bias.zero_()
        assert (before - block(x)).abs().max() / before.abs().max() > 1e-3


def test_tiny_widths_and_eps_are_respected(randomize):
    block = MobileOneBlock(4, 4, 3, norm_cfg=dict(type='BN', eps=0.5))
    randomize(block.double(), var=(1e-14, 1e-12))
    assert fold_error(block, torch.randn(1, 4, 5, 5, dtype=torch.float64)) < TOLERANCE


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('part', ['', 'rbr_conv.0.conv', 'rbr_scale'])
def test_half_precision_is_refused(dtype, part):
    block = MobileOneBlock(16, 16, 3, use_se=True)
    block.get_submodule(part).to(dtype)
    with pytest.raises(ValueError, match='float'):
        block.switch_to_deploy()
    assert not block.deploy


def test_mode_dtype_and_requires_grad_are_kept():
    for training, trainable in itertools.product([False, True], repeat=2):
        block = MobileOneBlock(4, 4, 3).double().train(training).requires_grad_(trainable)
        block.switch_to_deploy()
        conv = block.reparam_conv
        assert (conv.training, conv.weight.requires_grad, conv.bias.requires_grad) == (
            training, trainable, trainable)
        assert conv.weight.dtype == torch.float64
        block.switch_to_deploy()
        assert block.reparam_conv is conv


def test_errors():
    with pytest.raises(ValueError, match='num_conv_branches'):
        MobileOneBlock(4, 4, 3, num_conv_branches=0)
    with pytest.raises(ValueError, match='odd'):
        MobileOneBlock(4, 4, 2)
    with pytest.raises(ValueError, match='skip'):
        MobileOneBlock(4, 8, 3, use_skip_branch=True)
    with pytest.raises(ValueError, match='at least 16'):
        MobileOneBlock(4, 4, 3, use_se=True)
    with pytest.raises(TypeError, match='GroupNorm'):
        MobileOneBlock(4, 4, 3, norm_cfg=dict(type='GN', num_groups=1)).switch_to_deploy()
