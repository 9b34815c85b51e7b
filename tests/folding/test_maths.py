"""Compare the folding mathematics with torch's convolutions and batch norms, in float64."""

import copy
import itertools

import pytest
import torch
from torch import nn

from mobileone_mm.folding import (
    KernelBias,
    bn_scale_shift,
    check_precision,
    fold_conv_bn,
    identity_kernel,
    pad_kernel,
    sum_branches,
)

TOLERANCE = 1e-12  # relative, float64


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest value of the reference ``a``."""
    return ((a - b).abs().max() / a.abs().max()).item()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('own', [torch.float32, torch.float64])
def test_folding_uses_the_requested_dtype(own, dtype, randomize):
    """Independent of the layers' dtype: in float32 the fold would round twice."""
    conv, bn = nn.Conv2d(4, 6, 3).to(own), randomize(nn.BatchNorm2d(6).to(own))
    exact = fold_conv_bn(copy.deepcopy(conv).double(), copy.deepcopy(bn).double())
    for found, expected in zip(fold_conv_bn(conv, bn, dtype), exact):
        assert found.dtype == dtype
        assert relative(expected, found) < (TOLERANCE if dtype == torch.float64 else 1e-6)
    assert all(part.dtype == torch.float64 for part in fold_conv_bn(conv, bn))
    assert all(part.dtype == dtype for part in bn_scale_shift(bn, dtype))


@pytest.mark.parametrize('name', ['running_mean', 'running_var'])
def test_a_norm_without_one_of_its_statistics_cannot_be_folded(name):
    bn = nn.BatchNorm2d(3)
    setattr(bn, name, None)
    with pytest.raises(ValueError, match='track_running_stats=False'):
        bn_scale_shift(bn)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('affine', [False, True])
@pytest.mark.parametrize('norm', [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_fold_conv_bn(norm, affine, bias, randomize):
    conv = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2, bias=bias).double()
    bn = randomize(norm(8, affine=affine).double().eval(), var=(1e-12, 1e-3))
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    kernel, shift = fold_conv_bn(conv, bn)
    folded = nn.functional.conv2d(x, kernel, shift, stride=2, padding=1, groups=2)
    assert relative(bn(conv(x)), folded) < TOLERANCE


@pytest.mark.parametrize('kernel_size, stride, dilation, groups',
                         list(itertools.product([1, 3, 5], [1, 2], [1, 2], [1, 2, 4])))
def test_pad_kernel(kernel_size, stride, dilation, groups):
    kernel = torch.randn(8, 4 // groups, 1, 1, dtype=torch.float64)
    x = torch.randn(2, 4, 11, 8, dtype=torch.float64)
    small = nn.functional.conv2d(x, kernel, stride=stride, groups=groups)
    large = nn.functional.conv2d(x, pad_kernel(kernel, kernel_size), stride=stride, groups=groups,
                                 padding=dilation * (kernel_size // 2), dilation=dilation)
    assert relative(small, large) < TOLERANCE


@pytest.mark.parametrize('kernel_size, groups, dilation',
                         list(itertools.product([1, 3, 5], [1, 2, 6], [1, 3])))
def test_identity_kernel(kernel_size, groups, dilation):
    x = torch.randn(2, 6, 8, 5, dtype=torch.float64)
    y = nn.functional.conv2d(x, identity_kernel(6, groups, kernel_size), groups=groups,
                             padding=dilation * (kernel_size // 2), dilation=dilation)
    assert torch.equal(x, y)


def test_the_identity_is_made_on_its_device():
    assert identity_kernel(4, 2, 3, device=torch.device('meta')).device.type == 'meta'


def test_branches_add_up():
    branches = [KernelBias(torch.randn(2, 3), torch.randn(2)) for _ in range(3)]
    kernel, bias = sum_branches(iter(branches))
    torch.testing.assert_close(kernel, sum(branch.kernel for branch in branches))
    torch.testing.assert_close(bias, sum(branch.bias for branch in branches))
    assert sum_branches(branches[:1]) == branches[0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    check_precision(net)
    net[1].to(dtype)
    with pytest.raises(ValueError, match=f'1.weight is in {dtype}'):
        check_precision(net)


def test_the_fold_is_differentiable(randomize):
    conv, bn = nn.Conv2d(3, 3, 1).double(), randomize(nn.BatchNorm2d(3).double().eval())
    kernel, bias = fold_conv_bn(conv, bn)
    (kernel.sum() + bias.sum()).backward()
    assert conv.weight.grad.abs().min() > 0 and bn.weight.grad.abs().min() > 0


def test_errors():
    with pytest.raises(TypeError, match='GroupNorm'):
        bn_scale_shift(nn.GroupNorm(1, 4))
    with pytest.raises(ValueError, match='track_running_stats'):
        bn_scale_shift(nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match='odd'):
        pad_kernel(torch.zeros(1, 1, 1, 1), 2)
    with pytest.raises(ValueError, match='1x1'):
        pad_kernel(torch.zeros(1, 1, 3, 3), 5)
    with pytest.raises(ValueError, match='groups=2'):
        identity_kernel(3, 2, 3)
    with pytest.raises(ValueError, match='no branch'):
        sum_branches([])
