"""The backbone in DistributedDataParallel: two gloo processes."""

import copy

import pytest
import torch
import torch.multiprocessing as mp
from gloo_worker import ARCH, step, work

from mobileone_mm import MobileOne


@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch without distributed')
def test_two_processes_take_the_step_of_one(tmp_path, randomize):
    """With frozen statistics, the mean of both halves' gradients is the batch's gradient."""
    model = randomize(MobileOne(ARCH, norm_eval=True).double())
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    mp.spawn(work, (str(tmp_path), images, before), nprocs=2)
    step(model.train(), images)
    for rank in (0, 1):
        for name, value in torch.load(tmp_path / f'{rank}.pth').items():
            assert torch.allclose(value, model.state_dict()[name], rtol=1e-9, atol=1e-12), name
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), f'{name} did not move'
