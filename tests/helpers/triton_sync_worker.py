"""Code of the processes in tests/branches/triton/test_synced.py, importable when spawned."""

import copy
from typing import List
from unittest import mock

import torch
import torch.distributed as dist
from engine_utils import run, set_engine
from torch import nn

from mobileone_mm.branches import choose


def sync_step(rank: int, folder: str, blocks: List[nn.Module], parts: List[torch.Tensor]) -> None:
    """A pass of each block over this process's part of the batch, with synchronized norms."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    with mock.patch.object(choose, '_uses_triton', lambda *_: True):
        results = [run(set_engine(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(block)),
                                  'analytic'), parts[rank]) for block in blocks]
    torch.save(results, f'{folder}/{rank}.pth')
    dist.destroy_process_group()
