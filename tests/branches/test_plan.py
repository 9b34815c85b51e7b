"""A plan describes the same branches as torch's convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mobileone_mm.branches.maths.moments import ConvShape
from mobileone_mm.branches.plan import BranchPlan


def make_plan(kernel_size=3, depthwise=False, has_scale=True, has_skip=True, branches=4):
    shape = ConvShape(kernel_size, padding=kernel_size // 2)
    norms = [nn.BatchNorm2d(6) for _ in range(branches)]
    return BranchPlan(shape, depthwise, has_scale, has_skip, norms, relu=False)


def make_weights(plan):
    """float64 weights of the convolutions: k x k, and 1x1 for the scale branch."""
    count = len(plan.norms) - plan.has_skip
    sizes = [plan.shape.kernel_size] * (count - plan.has_scale) + [1] * plan.has_scale
    return [torch.randn(6, 1 if plan.depthwise else 6, size, size, dtype=torch.float64)
            for size in sizes]


@pytest.mark.parametrize('branches', [2, 4])
@pytest.mark.parametrize('has_skip', [False, True])
@pytest.mark.parametrize('kernel_size, has_scale', [(1, False), (3, False), (3, True), (5, True)])
@pytest.mark.parametrize('depthwise', [False, True])
def test_its_kernels_are_the_convolutions(depthwise, kernel_size, has_scale, has_skip, branches):
    plan = make_plan(kernel_size, depthwise, has_scale, has_skip, branches)
    weights = make_weights(plan)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    scale = torch.randn(branches, 6, dtype=torch.float64)
    groups = 6 if depthwise else 1
    maps = [F.conv2d(x, w, padding=w.shape[2] // 2, groups=groups) for w in weights]
    expected = sum(a.view(-1, 1, 1) * y for a, y in zip(scale, [*maps, x]))
    kernel = plan.kernels(weights, torch.float64).combine(scale)
    found = F.conv2d(x, kernel.view(6, -1, kernel_size, kernel_size),
                     padding=plan.shape.padding, groups=groups)
    torch.testing.assert_close(found, expected)
    rounded = plan.kernels(weights, torch.float32)
    assert rounded.weight.dtype == torch.float32 and not rounded.weight.requires_grad


@pytest.mark.parametrize('has_scale', [False, True])
@pytest.mark.parametrize('depthwise', [False, True])
def test_gradients_of_weights_are_those_of_the_stack(depthwise, has_scale):
    plan = make_plan(3, depthwise, has_scale, has_skip=False)
    weights = [w.requires_grad_() for w in make_weights(plan)]
    padded = [F.pad(w, [1] * 4) if w.shape[2] == 1 else w for w in weights]
    stack = torch.stack(padded).flatten(2)
    grads = torch.randn_like(stack)
    expected = torch.autograd.grad(stack, weights, grads)
    found = plan.split_weight_grads(grads, weights)
    assert len(found) == len(expected)
    for actual, reference in zip(found, expected):
        torch.testing.assert_close(actual.reshape_as(reference), reference)


def test_tensors_come_back_in_autograds_order():
    plan = make_plan(branches=2)
    weights = [torch.randn(6, 6, 3, 3), torch.randn(6, 6, 1, 1).half()]
    tensors = [*weights, torch.ones(6), None, torch.zeros(6).double(), None]
    found = plan.split(tensors)
    assert [id(t) for part in found for t in part] == [id(t) for t in tensors]
    flat = [torch.randn(6, 54), torch.randn(6, 6)]
    gamma, beta = torch.randn(2, 6), torch.randn(6)
    grads = plan.grads(tensors, flat, gamma, beta)
    for grad, tensor, source in zip(grads, tensors, [*flat, gamma[0], None, beta, None]):
        if tensor is None:
            assert grad is None
        else:
            assert grad.dtype == tensor.dtype
            assert torch.equal(grad, source.reshape(tensor.shape).to(tensor.dtype))


@pytest.mark.parametrize('has_scale', [False, True])
def test_taps_of_a_single_convolution(has_scale):
    """The norms read its output, the input times the 1x1 weight, and the input."""
    plan = make_plan(3, True, has_scale, has_skip=True, branches=2 + has_scale)
    weights = make_weights(plan)
    y, x = torch.randn(2, 6, 20, dtype=torch.float64)
    scaled = [w.view(6, 1) * x for w in weights[1:]]
    found = torch.einsum('bct,tcn->bcn', plan.tap_weight(weights, torch.float64),
                         torch.stack([y, x]))
    torch.testing.assert_close(found, torch.stack([y, *scaled, x]))
    assert plan.tap_weight(weights, torch.float32).dtype == torch.float32
