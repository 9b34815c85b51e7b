"""Synchronized norms in two processes equal the textbook in one process on the whole batch."""

import copy
import os

import pytest
import torch
import torch.multiprocessing as mp
from engine_utils import randomize, relative_error, set_engine
from triton_sync_worker import sync_step

from mobileone_mm.backbones import MobileOneBlock

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')
pytestmark = pytest.mark.skipif(
    os.environ.get('TRITON_INTERPRET') != '1', reason='the processes share a CPU by gloo')


def test_two_processes_equal_one(tmp_path):
    """The parts are uneven and far from zero, so their means differ."""
    blocks = [randomize(MobileOneBlock(2, 2, 3, groups=2, num_conv_branches=2)),
              randomize(MobileOneBlock(2, 3, 1, num_conv_branches=2))]
    x = torch.randn(3, 2, 5, 6) + torch.tensor([0., 1, 3]).view(3, 1, 1, 1)
    parts = [x[:1], x[1:]]
    mp.spawn(sync_step, (str(tmp_path), blocks, parts), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1)]
    for block, *found in zip(blocks, *ranks):
        check(copy.deepcopy(block).double(), x.double(), parts, found)


def check(block, x, parts, found):
    whole = x.clone().requires_grad_()
    output = set_engine(block, 'textbook')(whole)
    grads = []
    for part in parts:  # as the processes drew for theirs
        generator = torch.Generator().manual_seed(1)
        grads.append(torch.randn((len(part), *output.shape[1:]), generator=generator,
                                 dtype=torch.float64))
    output.backward(torch.cat(grads))
    assert relative_error(torch.cat([rank['output 0'] for rank in found]), output.detach()) < 1e-5
    assert relative_error(torch.cat([rank['input'] for rank in found]), whole.grad) < 1e-5
    for name, buffer in block.named_buffers():
        for rank in found:
            assert relative_error(rank[f'buffer {name}'], buffer) < 1e-5, name
    largest = max(float(p.grad.abs().max()) for p in block.parameters())
    for name, parameter in block.named_parameters():
        total = sum(rank[f'grad {name}'] for rank in found)
        assert float((total - parameter.grad).abs().max()) < 1e-5 * largest, name
