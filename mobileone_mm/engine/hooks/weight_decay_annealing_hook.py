"""Anneal the weight decay along with the learning rate (paper, section 3.4)."""

from typing import Any, Dict, List

from mmengine.hooks import Hook
from mmengine.optim import CosineAnnealingParamScheduler, OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.optim import Optimizer

_NAME = 'weight_decay'


@HOOKS.register_module()
class WeightDecayAnnealingHook(Hook):
    """Lower the weight decay by a cosine over the whole run, and never decay norms and biases.

    One line adds it to any config, whatever its ``param_scheduler`` and ``paramwise_cfg``::

        default_hooks = dict(weight_decay=dict(type='WeightDecayAnnealingHook'))

    mmengine's CosineAnnealingParamScheduler takes each group of parameters from its own weight
    decay to ``min_ratio`` of it, iteration by iteration. Parameters with at most one dimension
    (gammas, betas, biases) never have weight decay. (With a common ``eta_min``, as in mmpretrain's
    schedule, groups that start at 0 would *rise* to it.)

    Args:
        min_ratio: Ratio of final to initial weight decay. Defaults to 0.1, like the paper's 1e-4 to
            1e-5.

    Raises:
        ValueError: ``min_ratio`` is outside [0, 1]; or, when training starts, the run has several
            optimizers, no weight decay, or already a schedule for it.
    """

    def __init__(self, min_ratio: float = 0.1) -> None:
        if not 0 <= min_ratio <= 1:
            raise ValueError(f'min_ratio must be within [0, 1], got {min_ratio!r}')
        self.min_ratio = min_ratio

    def before_run(self, runner: Runner) -> None:
        """Add the schedule, before a checkpoint restores its state."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise ValueError('WeightDecayAnnealingHook works with one optimizer, got '
                             f'{sorted(wrapper.keys())}')
        if not isinstance(wrapper, OptimWrapper) or hasattr(wrapper, '_weight_decay_annealed'):
            return  # a test, or a validation after training
        runner.param_schedulers = self.add_schedule(
            wrapper, list(runner.param_schedulers or []), runner.max_iters)
        wrapper._weight_decay_annealed = True

    def add_schedule(self, wrapper: OptimWrapper, schedulers: List[Any],
                     max_iters: int) -> List[Any]:
        """Exempt norms and biases, and add the schedule.

        Args:
            wrapper: The optimizer, whose groups are changed in place.
            schedulers: mmengine's schedulers of it, whose base values are extended in place.
            max_iters: Length of the run.

        Returns:
            All schedulers.
        """
        if any(s.param_name == _NAME for s in schedulers):
            raise ValueError('param_scheduler already has a schedule for weight_decay: remove it, '
                             'or WeightDecayAnnealingHook')
        exempt_one_dimensional(wrapper.optimizer, schedulers)
        if not any(group[_NAME] for group in wrapper.optimizer.param_groups):
            raise ValueError('WeightDecayAnnealingHook has nothing to anneal: set '
                             'optim_wrapper.optimizer.weight_decay, for example to 1e-4')
        return [*schedulers, CosineAnnealingParamScheduler(
            wrapper, _NAME, eta_min_ratio=self.min_ratio, end=max_iters, by_epoch=False)]


def exempt_one_dimensional(optimizer: Optimizer, schedulers: List[Any]) -> None:
    """Move parameters with at most one dimension to groups without weight decay.

    Args:
        optimizer: Its groups are changed in place, and new ones are appended.
        schedulers: mmengine's schedulers of this optimizer; new groups get the base values of the
            groups they come from.
    """
    for index, group in enumerate(list(optimizer.param_groups)):
        exempt = [p for p in group['params'] if p.ndim <= 1]
        if not exempt or not group[_NAME]:
            continue
        if len(exempt) == len(group['params']):
            group[_NAME] = 0.
            continue
        group['params'] = [p for p in group['params'] if p.ndim > 1]
        options: Dict[str, Any] = {k: v for k, v in group.items() if k != 'params'}
        optimizer.add_param_group({**options, 'params': exempt, _NAME: 0.})
        for scheduler in schedulers:
            # The wrapper's own settings come after the optimizer's groups and stay last.
            values = scheduler.base_values
            values.insert(len(optimizer.param_groups) - 1, values[index])
