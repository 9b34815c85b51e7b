"""Check that a checkpoint belongs to the run that resumes from it."""

from typing import Any, Dict, Iterator, List, Set

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ...folding.models import misfits
from ...folding.reparameterize import unwrap_model
from ...utils.checkpoint_files import CheckpointError

__all__ = ['check_fits']

# Options of torch's optimizers that only change how they compute, and that differ by release.
_SWITCHES = {'params', 'param_names', 'foreach', 'maximize', 'capturable', 'differentiable',
             'fused', 'decoupled_weight_decay'}


def check_fits(runner: Runner, checkpoint: Dict[str, Any], name: str) -> None:
    """Compare a checkpoint's model, averaged weights, optimizer and schedulers with the run's.

    Args:
        runner: The runner, with built model, optimizer and schedulers.
        checkpoint: From :func:`mobileone_mm.engine.resuming.finding.read_whole`.
        name: The checkpoint's file, for the message.

    Raises:
        CheckpointError: The checkpoint belongs to another model or optimizer.
    """
    own = unwrap_model(runner.model).state_dict()
    found = [f'of {len(own)} weights {misfit}'
             for misfit in misfits(own, checkpoint['state_dict'])]
    if 'ema_state_dict' in checkpoint and not any(isinstance(h, EMAHook) for h in runner.hooks):
        found.append('averaged weights, but the config has no EMAHook')
    found += _optimizer_misfits(runner.optim_wrapper, checkpoint['optimizer'])
    schedulers, saved = (len(part or ()) for part in (
        runner.param_schedulers, checkpoint.get('param_schedulers')))
    if schedulers != saved:
        found.append(f'{saved} parameter schedulers, but the config has {schedulers}')
    if found:
        raise CheckpointError(
            f'{name} does not belong to the training of this config: it has '
            f'{"; ".join(found)}. Resume it with the config that it was trained with; a new '
            'training can start from its weights with --cfg-options load_from=FILE')


def _optimizer_misfits(wrapper: Any, state: Any) -> Iterator[str]:
    if isinstance(wrapper, OptimWrapperDict):
        for name, part in wrapper.items():
            yield from _optimizer_misfits(part, state.get(name))
        return
    own = wrapper.optimizer.state_dict()['param_groups']
    groups = state.get('param_groups') if isinstance(state, dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        yield 'no groups of an optimizer'
        return
    sizes, own_sizes = ([len(group['params']) for group in part] for part in (groups, own))
    if sizes != own_sizes:
        yield (f'{len(sizes)} groups of an optimizer with {sum(sizes)} parameters, but the config '
               f'has {len(own_sizes)} with {sum(own_sizes)}'
               + ('' if sum(sizes) != sum(own_sizes) else ', divided otherwise'))
    names, own_names = _options(groups), _options(own)
    if names != own_names:
        kind = type(wrapper.optimizer).__name__
        yield (f'an optimizer with the options {sorted(names)}, but the config has {kind} with '
               f'{sorted(own_names)}')
    elif _decoupled(groups) != _decoupled(own) and None not in _decoupled(groups) | _decoupled(own):
        yield 'Adam or AdamW, and the config has the other'


def _options(groups: List[dict]) -> Set[str]:
    return {name for group in groups for name in group
            if name not in _SWITCHES and not name.startswith('initial_')}


def _decoupled(groups: List[dict]) -> Set[Any]:
    """The only difference between Adam and AdamW."""
    return {group.get('decoupled_weight_decay') for group in groups}
