"""Save the checkpoint of a training that stops early."""

import torch
from mmengine.dist import all_reduce, all_reduce_params, get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from .atomic_backend import BACKEND

__all__ = ['INTERRUPTED', 'average_statistics', 'largest', 'save_interrupted']

INTERRUPTED = 'interrupted.pth'


def save_interrupted(runner: Runner, iteration: int) -> None:
    """Save ``interrupted.pth`` in the work directory; every process must call it.

    Args:
        runner: The runner whose state is saved.
        iteration: Number of finished iterations.
    """
    average_statistics(runner)
    runner.save_checkpoint(
        runner.work_dir, INTERRUPTED, by_epoch=False,
        meta=dict(epoch=runner.epoch, iter=iteration),
        backend_args=dict(backend=BACKEND))


def average_statistics(runner: Runner) -> None:
    """Average running statistics over the processes, including those of EMAHook's weights.

    Running statistics are linear in those of the batches. So, up to rounding, the mean at the end
    of an epoch is the same whether or not the processes averaged theirs before.
    """
    averaged = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    for model in (runner.model, *averaged):
        all_reduce_params(model.buffers(), op='mean')


def largest(value: int) -> int:
    """The largest value over all processes."""
    if get_world_size() == 1:
        return value
    tensor = torch.tensor(value)
    all_reduce(tensor, 'max')
    return int(tensor)
