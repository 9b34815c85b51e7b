"""What mmengine lacks on CPUs: mixed precision, several processes, memory in the log."""

import sys
from contextlib import contextmanager
from typing import Iterator, Tuple

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.optim import OptimWrapper
from mmengine.registry import LOG_PROCESSORS, OPTIM_WRAPPERS
from mmengine.runner import LogProcessor, Runner
from torch import nn

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore

__all__ = ['CPUAmpOptimWrapper', 'CPULogProcessor', 'join_cpu_processes']


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs forward passes under autocast to bfloat16, whose range needs no loss scaling."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Also do what :class:`mmengine.optim.OptimWrapper` does for accumulated gradients."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@LOG_PROCESSORS.register_module()
class CPULogProcessor(LogProcessor):
    """mmengine's log, with the peak resident memory of the process, in MB, instead of a GPU's."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> Tuple[dict, str]:
        """Log an iteration as mmengine does, with ``memory``."""
        tag, text = super().get_log_after_iter(runner, batch_idx, mode)
        if 'memory' not in tag and resource is not None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tag['memory'] = peak >> (20 if sys.platform == 'darwin' else 10)
            text = f"{text.rstrip()}  memory: {tag['memory']}"
        return tag, text


def join_cpu_processes(cfg: Config) -> None:
    """Connect torchrun's processes by gloo; mmengine's own function selects a GPU first.

    Args:
        cfg: The config of the run, changed in place to wrap the model for CPUs.
    """
    if not is_distributed():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        dict(type='MMDistributedDataParallel', broadcast_buffers=False,
             find_unused_parameters=cfg.get('find_unused_parameters', False)),
        **cfg.get('model_wrapper_cfg') or {}, device_ids=None)
