"""Compare Triton kernels with the textbook branches in float64; interpreted without a GPU."""

import os

import pytest
import torch

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')
if not torch.cuda.is_available() and os.environ.get('TRITON_INTERPRET') != '1':
    pytest.skip('no GPU, and Triton does not interpret: see `make test-triton`',
                allow_module_level=True)

import triton_errors as errors  # noqa: E402

from mobileone_mm.branches.triton import depthwise_kernels  # noqa: E402


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
