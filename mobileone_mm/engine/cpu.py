"""Mixed precision and several processes without a GPU: mmengine refuses both on a CPU."""

from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

__all__ = ['CPUAmpOptimWrapper', 'join_cpu_processes']


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Forward passes under autocast to bfloat16, whose range needs no scaling of the loss."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Also what :class:`mmengine.optim.OptimWrapper` does for accumulated gradients."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


def join_cpu_processes(cfg: Config) -> None:
    """Join torchrun's processes by gloo; mmengine's own way selects a GPU first.

    Args:
        cfg: The config of the run, changed in place: it then wraps the model for CPUs.
    """
    if not is_distributed():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        dict(type='MMDistributedDataParallel', broadcast_buffers=False,
             find_unused_parameters=cfg.get('find_unused_parameters', False)),
        **cfg.get('model_wrapper_cfg') or {}, device_ids=None)
