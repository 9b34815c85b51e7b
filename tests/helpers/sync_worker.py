"""What the processes of tests/backbones/test_branch_engine_sync.py run; importable when spawned."""

import torch
import torch.distributed as dist
from engine_utils import run
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mobileone_mm import MobileOne


def sync_step(rank: int, folder: str, arch: dict, state_dict: dict, parts: list) -> None:
    """One pass over this process's part of the batch with synchronized norms."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    net = MobileOne(arch, branch_engine='analytic').double()
    net.load_state_dict(state_dict)
    result = run(nn.SyncBatchNorm.convert_sync_batchnorm(net).train(), parts[rank])
    # DistributedDataParallel itself refuses SyncBatchNorm on the CPU.
    net = MobileOne(arch, branch_engine='analytic').double()
    net.load_state_dict(state_dict)
    wrapped = DistributedDataParallel(net.train())
    wrapped(parts[rank])[0].square().sum().backward()
    result.update((f'ddp {n}', p.grad) for n, p in net.named_parameters())
    torch.save(result, f'{folder}/{rank}.pth')
    dist.destroy_process_group()
