"""Synchronized norms in two processes equal one process on the whole batch."""

import copy

import pytest
import torch
import torch.multiprocessing as mp
from engine_utils import randomize, relative_error, set_engine
from sync_worker import sync_step

from mobileone_mm import MobileOne

ARCH = dict(width_factor=(.25, ) * 4, num_conv_branches=(2, 1, 2, 1), num_blocks=(1, 2, 1, 1))
TOLERANCE = 1e-9


@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch without distributed')
def test_two_processes_equal_one(tmp_path):
    """The parts are uneven; the single process runs the textbook with plain batch norms."""
    net = randomize(MobileOne(ARCH, branch_engine='textbook').double())
    images = torch.randn(5, 3, 48, 48, dtype=torch.float64)
    parts = [images[:3], images[3:]]
    before = copy.deepcopy(net.state_dict())
    mp.spawn(sync_step, (str(tmp_path), ARCH, before, parts), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1)]

    # The same output gradients as the processes drew for their parts.
    x = images.clone().requires_grad_()
    output, = set_engine(net, 'textbook')(x)
    grads = []
    for part in parts:
        generator = torch.Generator().manual_seed(1)
        shape = (len(part), *output.shape[1:])
        grads.append(torch.randn(shape, generator=generator, dtype=torch.float64))
    output.backward(torch.cat(grads))

    def joined(name):
        return torch.cat([rank[name] for rank in ranks])

    assert relative_error(joined('output 0'), output) < TOLERANCE
    assert relative_error(joined('input'), x.grad) < TOLERANCE
    for name, buffer in net.named_buffers():
        for rank in ranks:
            assert relative_error(rank[f'buffer {name}'], buffer) < TOLERANCE, name
    largest = max(float(p.grad.abs().max()) for p in net.parameters())
    for name, parameter in net.named_parameters():
        total = sum(rank[f'grad {name}'] for rank in ranks)
        assert float((total - parameter.grad).abs().max()) < TOLERANCE * largest, name

    # DistributedDataParallel with plain norms: the mean of what each part gives alone.
    net.load_state_dict(before)
    for parameter in net.parameters():
        parameter.grad = None
    for part in parts:
        (net(part)[0].square().sum() / 2).backward()
    largest = max(float(p.grad.abs().max()) for p in net.parameters())
    for name, parameter in net.named_parameters():
        for rank in ranks:
            error = float((rank[f'ddp {name}'] - parameter.grad).abs().max())
            assert error < TOLERANCE * largest, f'{name}: {error:.2e} of {largest:.2e}'
