"""Code of the processes in tests/backbones/test_distributed.py, importable when spawned."""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mobileone_mm import MobileOne

ARCH = dict(width_factor=(0.25, 0.25, 0.25, 0.25), num_conv_branches=(2, 1, 2, 1),
            num_blocks=(1, 1, 1, 1))


def step(model, images):
    """One SGD step on the mean square of the features."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images)[0].square().mean().backward()
    optimizer.step()


def work(rank, folder, images, state_dict):
    """Take the step on this process's half of the batch, with frozen batch norms."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    model = MobileOne(ARCH, norm_eval=True).double()
    model.load_state_dict(state_dict)
    step(DistributedDataParallel(model.train()), images[rank::2])
    torch.save(model.state_dict(), f'{folder}/{rank}.pth')
    dist.destroy_process_group()
