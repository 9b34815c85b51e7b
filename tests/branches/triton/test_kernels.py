"""Compare Triton kernels with the textbook branches in float64; interpreted without a GPU."""

import os

import pytest
import torch

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')
if not torch.cuda.is_available() and os.environ.get('TRITON_INTERPRET') != '1':
    pytest.skip('no GPU, and Triton does not interpret: see `make test-triton`',
                allow_module_level=True)

import triton_errors as errors  # noqa: E402
from engine_utils import mean_drift  # noqa: E402

from mobileone_mm.branches import choose  # noqa: E402
from mobileone_mm.branches.triton import choose as blocks  # noqa: E402
from mobileone_mm.branches.triton import depthwise_kernels, function, reference  # noqa: E402
from mobileone_mm.branches.triton.block import Fold  # noqa: E402


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.mark.parametrize('case', [*errors.small_cases()], ids=str)
def test_outputs_gradients_and_statistics(case):
    """Twice the textbook's error is allowed in float32, the same error in half precision."""
    if not case.runs_here():
        pytest.skip('the interpreter has no products of bfloat16')
    found = errors.errors(case)
    assert not errors.excess(found, case), found


@pytest.mark.parametrize('layout', errors.LAYOUTS)
@pytest.mark.parametrize('kind, stride', [('depthwise', 1), ('depthwise', 2), ('pointwise', 1)])
def test_kernels_equal_the_reference(kind, stride, layout):
    """All that the forward pass returns, but for the shift, which each chooses, and gradients."""
    case = errors.Case(kind, 2, stride, layout=layout, channels=4, offset=3)
    block, x = case.block().to(errors.DEVICE), case.input().to(errors.DEVICE)
    fold, params = Fold(2, kind == 'depthwise', stride == 1, kind == 'depthwise', stride, 1,
                        1e-5, True), flat_params(block)
    y, kernel, state, stats = function.forward(x, params, 4, fold)
    expected = reference.reference_forward(x, params, 4, fold)
    sizes = reference.state_sizes(4, 4, fold)
    for found, right in ((y, expected[0]), (kernel, expected[1]), (stats, expected[3]),
                         *zip(without_shift(state, sizes), without_shift(expected[2], sizes))):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
    grad = torch.randn_like(y)
    for found, right in zip(
            function.backward(x, grad, y, params, kernel, state, fold, needs_x=True),
            reference.reference_backward(x, grad, y, params, expected[1], expected[2], fold)):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason='autocast for CPUs')
@pytest.mark.parametrize('how', ['kernels', 'synchronized', 'operator'])
def test_the_bias_takes_back_what_rounding_the_kernel_does(how, monkeypatch):
    """As in test_branch_engine_precision.py, for each way to compute with Triton."""
    monkeypatch.setattr(choose, '_uses_triton', lambda *_: True)
    monkeypatch.setattr(blocks, 'tensor_cores', lambda x: 9)
    if how == 'operator':
        monkeypatch.setattr(blocks, 'is_compiling', lambda: True)

    def change(block):  # only norms that are alike do without synchronized ones' steps
        block.rbr_conv[0].bn.momentum = .2 if how == 'synchronized' else .1

    assert mean_drift(torch.float16, change) < 2


def flat_params(block):
    """Weights of the block's own kernel and of the 1x1 branch, gammas, betas."""
    branches = [*block.rbr_conv, *([block.rbr_scale] if block.rbr_scale is not None else [])]
    norms = [branch.bn for branch in branches]
    norms += [block.rbr_skip] if block.rbr_skip is not None else []
    tensors = [branch.conv.weight for branch in branches] + [
        getattr(norm, name) for name in ('weight', 'bias') for norm in norms]
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def without_shift(state, sizes):
    """The parts of the state: the mean; scales, inverse deviations and products of the norms."""
    shift, rest, *others = state.split(sizes)
    return [shift.repeat_interleave(len(rest) // len(shift)) + rest, *others[:3]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='maps of this size are for a GPU')
@pytest.mark.parametrize('case', [*errors.large_cases()], ids=str)
def test_large_maps(case):
    found = errors.errors(case)
    assert not errors.excess(found, case), found


@pytest.mark.skipif(torch.cuda.is_available(), reason='compiled kernels cannot be patched')
def test_a_wrong_kernel_is_noticed(monkeypatch):
    """A kernel that treats the first row of an image as border."""
    monkeypatch.setattr(depthwise_kernels, 'inside', lambda h, w, height, width: (
        (h > 0) & (h < height)) & ((w >= 0) & (w < width)))
    case = errors.Case('depthwise', 1, layout='nhwc')
    assert {'output', 'input', 'weight'} <= set(errors.excess(errors.errors(case), case))


@pytest.mark.skipif(torch.cuda.is_available(), reason='compiled kernels cannot be patched')
def test_an_access_outside_a_tensor_is_noticed(monkeypatch):
    """Reads a row and a column around the image, which may happen to be zeros."""
    monkeypatch.setattr(depthwise_kernels, 'inside', lambda h, w, height, width: (
        (h >= -9) & (h < height)) & ((w >= 0) & (w < width)))
    with pytest.raises(Exception, match='outside its tensors'):
        errors.errors(errors.Case('depthwise', 1, layout='nhwc'))
