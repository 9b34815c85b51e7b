"""Compare a model's eval mode with its train mode, and re-estimate batch norm statistics.

After fine-tuning with few or small batches, the running statistics may not fit the weights. Then
the model is far worse in eval mode than in train mode.
"""

import copy
import itertools
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from rich.progress import track
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..engine import SeededDataset
from ..engine.hooks import ProgressiveLearningHook
from ..engine.hooks.find import hooks_of
from ..engine.hooks.progressive_learning_hook import pipelines_of
from ..folding.models import load_weights
from ..utils.fileio import atomic_path

__all__ = ['Gap', 'Shift', 'TrainingBatches', 'check_out', 'measure_gap', 'rank_shifts',
           'reestimate', 'statistics', 'write_reestimated']

Statistics = Dict[str, Dict[str, torch.Tensor]]


class Gap(NamedTuple):
    """Mean loss over the same batches with the batches' statistics and with running statistics."""

    train: float
    eval: float

    def __str__(self) -> str:
        return (f'loss with batch statistics {self.train:.4f}, with running statistics '
                f'{self.eval:.4f} ({self.eval / self.train:.2f} times)')


class Shift(NamedTuple):
    """How far one batch norm's statistics were off, in the worst channel.

    ``mean`` is in standard deviations of the new statistics; ``variance`` is the ratio of the
    larger variance to the smaller.
    """

    name: str
    mean: float
    variance: float


class TrainingBatches:
    """Load the first batches of a config's training data, the same and equally augmented each time.

    With progressive learning, they are from its last stage.

    Args:
        cfg: A complete config, which is not changed.
        most: Maximum number of batches, at least 1.

    Raises:
        ValueError: ``most`` is less than 1.
    """

    def __init__(self, cfg: Config, most: int) -> None:
        if most < 1:
            raise ValueError(f'the number of batches must be at least 1, got {most}')
        loader = copy.deepcopy(cfg.train_dataloader)
        for hook in hooks_of(cfg, ProgressiveLearningHook):
            for pipeline, config in zip(pipelines_of(loader.dataset),
                                        pipelines_of(cfg.train_dataloader.dataset)):
                pipeline[:] = hook.pipeline_of(config, hook.stages[-1])[0]
        if loader.dataset.type != SeededDataset.__name__:
            loader.dataset = ConfigDict(type=SeededDataset.__name__, dataset=loader.dataset)
        loader.persistent_workers = False
        self.loader = Runner.build_dataloader(loader, seed=0)
        self.most = most

    def __len__(self) -> int:
        return min(self.most, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        batches = itertools.islice(self.loader, len(self))
        # A progress bar, but only in a terminal.
        yield from track(batches, 'batches', len(self), disable=not sys.stdout.isatty())


def measure_gap(model: BaseModel, batches: Iterable[Any]) -> Gap:
    """Compare the loss in both modes of the batch norms; everything else stays in eval mode.

    Args:
        model: An OpenMMLab model, which is not changed. Norms that it freezes (``norm_eval``,
            ``frozen_stages``) use their running statistics in both modes.
        batches: Batches of the training data loader; each is used in both modes.

    Raises:
        ValueError: There is no batch.
    """
    model = copy.deepcopy(model).eval()
    norms = _trainable_norms(model)
    losses: Dict[bool, List[float]] = {True: [], False: []}
    for batch in batches:
        for mode, values in losses.items():
            for norm in norms.values():
                norm.train(mode)
                norm.momentum = 0.  # the running statistics stay as they are
            values.append(_loss(model, copy.deepcopy(batch)))
    if not losses[True]:
        raise ValueError('no batch to measure: the data loader is empty')
    return Gap(*(sum(losses[mode]) / len(losses[mode]) for mode in (True, False)))


def reestimate(model: BaseModel, batches: Iterable[Any]) -> int:
    """Replace running statistics by averages over batches, with unchanged weights.

    This is ``torch.optim.swa_utils.update_bn`` for OpenMMLab's batches and models: all heads run,
    and norms that the model freezes, or that no batch reaches, keep their statistics.

    Args:
        model: Its batch norms are changed in place; its modules keep their modes.
        batches: Batches of the training data loader.

    Returns:
        The number of batch norms with new statistics.
    """
    with _modes_kept(model):
        norms = list(_trainable_norms(model).values())
        model.eval()
        old = [copy.deepcopy(norm.state_dict()) for norm in norms]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # plain average
            norm.train()
        try:
            for batch in batches:
                _loss(model, batch)
        finally:
            for norm, momentum, state in zip(norms, momenta, old):
                norm.momentum = momentum
                if not _batches(norm):
                    norm.load_state_dict(state)
        return sum(_batches(norm) > 0 for norm in norms)


def _batches(norm: _BatchNorm) -> int:
    """Number of batches in the running statistics."""
    return 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)


def statistics(model: nn.Module) -> Statistics:
    """Copies of the running statistics, by the names of the batch norms."""
    return {name: dict(mean=norm.running_mean.double().clone(),
                       var=norm.running_var.double().clone())
            for name, norm in model.named_modules()
            if isinstance(norm, _BatchNorm) and norm.running_mean is not None
            and norm.running_var is not None}


def rank_shifts(before: Statistics, after: Statistics) -> List[Shift]:
    """How far batch norms' statistics moved, sorted by the mean, the worst first."""
    shifts = []
    for name, new in after.items():
        old, tiny = before[name], torch.finfo(torch.float32).tiny
        var, old_var = new['var'].clamp_min(tiny), old['var'].clamp_min(tiny)
        shifts.append(Shift(
            name,
            float(((new['mean'] - old['mean']).abs() / var.sqrt()).max()),
            float(torch.maximum(var / old_var, old_var / var).max())))
    return sorted(shifts, key=lambda shift: shift.mean, reverse=True)


def check_out(out: Union[str, Path], checkpoint: Union[str, Path]) -> None:
    """Check the name of the file to write.

    Raises:
        ValueError: It does not end in ``.pth``, or is that of the checkpoint.
    """
    if Path(out).suffix != '.pth':
        raise ValueError(f'--out {out}: expected a name that ends with .pth')
    if Path(out).resolve() == Path(checkpoint).resolve():
        raise ValueError(f'{out} would overwrite the checkpoint: choose another name')


def write_reestimated(model: BaseModel, checkpoint: Union[str, Path], out: Union[str, Path],
                      batches: Sequence[Any]) -> int:
    """Load a checkpoint, re-estimate its statistics and write a new checkpoint.

    The new file is complete or absent. It holds the weights and ``meta``, to test, fold or
    fine-tune. To resume a run, use the old one.

    Args:
        model: The model of the checkpoint; changed in place.
        checkpoint: The file to read.
        out: The file to write.
        batches: Batches of the training data loader.

    Returns:
        The number of batch norms with new statistics.

    Raises:
        ValueError: As of :func:`check_out`; or no norm got new statistics.
    """
    out = Path(out)
    check_out(out, checkpoint)
    meta = load_weights(model, checkpoint)
    number = reestimate(model, batches)
    if not number:
        raise ValueError('no batch norm got new statistics: all are frozen (norm_eval, '
                         'frozen_stages) or folded, or the data loader is empty')
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as path:
        torch.save(dict(meta=meta, state_dict=weights_to_cpu(model.state_dict())), path)
    return number


def _trainable_norms(model: nn.Module) -> Dict[str, _BatchNorm]:
    """Batch norms with running statistics that ``model.train()`` switches to train mode."""
    with _modes_kept(model):
        model.train()
        return {name: module for name, module in model.named_modules()
                if isinstance(module, _BatchNorm) and module.training
                and module.running_mean is not None}


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def _loss(model: BaseModel, batch: Any) -> float:
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss') if isinstance(data, dict) else model(*data, mode='loss')
    return float(model.parse_losses(losses)[0])
