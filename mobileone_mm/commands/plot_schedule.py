"""Compute a config's schedules over a training, without training."""

import copy
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from ..engine.hooks import ProgressiveLearningHook, WeightDecayAnnealingHook
from ..engine.hooks.find import hooks_of
from ..engine.hooks.progressive_learning_hook import pipelines_of, resolutions
from ..folding.models import build_model
from ..utils.plots import new_figure, save_figure
from ..utils.wrapped import count_samples

__all__ = ['Schedule', 'draw_schedule', 'iterations_per_epoch', 'simulate']

# Number of training images, for drawing without the data. COCO's count leaves out images without
# objects, as mmdet's configs do.
KNOWN_SIZES = dict(CocoDataset=117_266, ADE20KDataset=20_210, ImageNet=1_281_167)
VOC_SIZES = {'train.txt': 1_464, 'aug.txt': 9_118}
MAX_POINTS = 4000


class Schedule(NamedTuple):
    """Curves over a training of E epochs, at P points.

    Attributes:
        epochs: (P,), 0 at the start and E at the end.
        lr: Learning rate of each distinct group of parameters, (P, groups).
        weight_decay: Weight decay of each distinct group of parameters, (P, groups).
        groups: Description of each group.
        resolution: Height and width of the training images per epoch, (E, 2), or None if no known
            transform fixes them.
        strength: Factor of the augmentation per epoch, (E,); 1 is the config's own pipeline.
    """

    epochs: np.ndarray
    lr: np.ndarray
    weight_decay: np.ndarray
    groups: List[str]
    resolution: Optional[np.ndarray]
    strength: np.ndarray


def iterations_per_epoch(cfg: Config) -> int:
    """Iterations per epoch by the published sizes of the data sets, without reading them.

    The batch size is that of the recipe's learning rate (``auto_scale_lr.base_batch_size``), or
    else the data loader's.

    Raises:
        ValueError: The size of a data set is not known.
    """
    loader = cfg.train_dataloader
    batch = (cfg.get('auto_scale_lr') or {}).get('base_batch_size') or loader.batch_size
    number = count_samples(loader.dataset, _published_size)
    if number is None:
        raise ValueError(f'the size of {loader.dataset.get("type")} is not known: give the '
                         'iterations per epoch')
    return number // batch if loader.get('drop_last') else -(-number // batch)


def simulate(cfg: Config, iters_per_epoch: int) -> Schedule:
    """Step through the schedulers of a config as mmengine would in training.

    Args:
        cfg: A complete config of an epoch-based run, which is not changed.
        iters_per_epoch: Iterations of an epoch.

    Raises:
        ValueError: The run is iteration-based, or ``iters_per_epoch`` is not positive.
    """
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not epochs:
        raise ValueError('the config has no train_cfg.max_epochs: only epoch-based runs are drawn')
    if iters_per_epoch < 1:
        raise ValueError(f'an epoch needs at least one iteration, got {iters_per_epoch}')
    wrapper, names = _small_optimizer(cfg)
    schedulers = _build_schedulers(cfg, wrapper, epochs, iters_per_epoch)
    points = _step_through(wrapper, schedulers, epochs, iters_per_epoch)
    values = np.array([point[1:] for point in points])  # (P, 2, groups)
    # the actual decay: WeightDecayAnnealingHook sets that of norms and biases to 0
    names = [f'{name}, decay {decay:g}' for name, decay in zip(names, values[0, 1])]
    resolution, strength = _stages(cfg, epochs)
    return Schedule(np.array([point[0] for point in points]), values[:, 0], values[:, 1],
                    names, resolution, strength)


def draw_schedule(schedule: Schedule, path: Union[str, Path], title: str) -> None:
    """Write a PNG with four charts: learning rate, weight decay, resolution, strength."""
    figure = new_figure(10, 7)
    figure.suptitle(title)
    axes = figure.subplots(2, 2, sharex=True)
    styles = ['-', '--', ':', '-.']
    for axis, values, name in ((axes[0][0], schedule.lr, 'learning rate'),
                               (axes[0][1], schedule.weight_decay, 'weight decay')):
        for i, label in _distinct(values, schedule.groups):
            axis.plot(schedule.epochs, values[:, i], styles[i % 4], label=label)
        axis.set(title=name, ylim=(0, values.max() * 1.05 or 1))
        axis.ticklabel_format(axis='y', scilimits=(-2, 3))
        axis.legend(fontsize=8)
    edges = np.arange(len(schedule.strength) + 1)
    if schedule.resolution is None:
        axes[1][0].text(.5, .5, 'not fixed by the pipeline', ha='center',
                        transform=axes[1][0].transAxes)
    else:
        for i, label in enumerate(('height', 'width')):
            if i == 0 or (schedule.resolution[:, 0] != schedule.resolution[:, 1]).any():
                axes[1][0].stairs(schedule.resolution[:, i], edges, label=label, baseline=None)
        axes[1][0].set_ylim(0, schedule.resolution.max() * 1.1)
    axes[1][0].set(title='training resolution, px', xlabel='epoch')
    axes[1][1].stairs(schedule.strength, edges, baseline=None)
    axes[1][1].set(title="augmentation strength, relative to the config's", xlabel='epoch',
                   ylim=(0, max(1, schedule.strength.max()) * 1.1))
    for axis in axes.flat:
        axis.grid(alpha=.3)
    save_figure(figure, path)


def _published_size(dataset: Dict[str, Any]) -> int:
    kind = str(dataset['type']).rsplit('.', 1)[-1]
    if kind == 'PascalVOCDataset' and 'data/VOCdevkit' in str(dataset.get('data_root')):
        files = dataset['ann_file']
        names = [files] if isinstance(files, str) else files
        return sum(VOC_SIZES[Path(name).name] for name in names)
    own_data = dataset.get('metainfo') is not None  # so not the published one
    if kind not in KNOWN_SIZES or own_data:
        raise ValueError(f'the size of the data set {kind} in {dataset.get("data_root")} is not '
                         'known: give the iterations per epoch')
    return KNOWN_SIZES[kind]


def _small_optimizer(cfg: Config) -> Tuple[OptimWrapper, List[str]]:
    """The config's optimizer, with one small parameter for each distinct treatment."""
    cfg = copy.deepcopy(cfg)
    cfg.optim_wrapper.type = 'OptimWrapper'  # AmpOptimWrapper needs a GPU
    cfg.model.backbone.init_cfg = None  # nothing is downloaded
    model = build_model(cfg)
    whole = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    kinds: Dict[Tuple[float, float, bool], dict] = {}
    for group in whole.param_groups:
        for parameter in group['params']:
            vector = parameter.ndim <= 1
            options = {k: v for k, v in group.items() if k != 'params'}
            kinds.setdefault((group['lr'], group.get('weight_decay', 0.), vector), dict(
                options, params=[torch.nn.Parameter(torch.zeros((1, ) * (1 if vector else 2)))]))
    names = [f'{"norms and biases" if vector else "weights"}, initial lr {lr:g}'
             for lr, _, vector in kinds]
    return OptimWrapper(type(whole)(list(kinds.values()), lr=whole.defaults['lr'])), names


def _build_schedulers(cfg: Config, wrapper: OptimWrapper, epochs: int,
                      iters_per_epoch: int) -> List[Any]:
    configs = cfg.get('param_scheduler') or []
    schedulers = []
    for config in copy.deepcopy(configs if isinstance(configs, (list, tuple)) else [configs]):
        config.setdefault(
            'end', epochs if config.get('by_epoch', True) else epochs * iters_per_epoch)
        schedulers.append(PARAM_SCHEDULERS.build(
            config, default_args=dict(optimizer=wrapper, epoch_length=iters_per_epoch)))
    for hook in hooks_of(cfg, WeightDecayAnnealingHook):
        schedulers = hook.add_schedule(wrapper, schedulers, epochs * iters_per_epoch)
    return schedulers


def _step_through(wrapper: OptimWrapper, schedulers: Sequence[Any], epochs: int,
                  iters_per_epoch: int) -> List[Tuple[float, List[float], List[float]]]:
    """Learning rates and weight decays at some iterations, including the start of each epoch."""
    by_iter = [s for s in schedulers if not s.by_epoch]
    by_epoch = [s for s in schedulers if s.by_epoch]
    every = max(1, epochs * iters_per_epoch // MAX_POINTS)
    points = []
    wrapper._global_step = 0  # mmengine warns about schedulers that step before the optimizer
    for iteration in range(epochs * iters_per_epoch):
        if iteration % every == 0 or iteration % iters_per_epoch == 0:
            groups = wrapper.optimizer.param_groups
            points.append((iteration / iters_per_epoch, [g['lr'] for g in groups],
                           [g.get('weight_decay', 0.) for g in groups]))
        for scheduler in by_iter:
            scheduler.step()
        if (iteration + 1) % iters_per_epoch == 0:
            for scheduler in by_epoch:
                scheduler.step()
    return points


def _stages(cfg: Config, epochs: int) -> Tuple[Optional[np.ndarray], np.ndarray]:
    pipelines = list(pipelines_of(cfg.train_dataloader.dataset))
    hook = next(hooks_of(cfg, ProgressiveLearningHook), None)
    sizes, strengths = [], []
    for epoch in range(1, epochs + 1):
        stage = hook.stage_of(epoch) if hook else {}
        current = [hook.pipeline_of(p, stage)[0] if hook else p for p in pipelines]
        sizes += [next(iter(resolutions(current, hook and hook.resolution_keys)), None)]
        strengths.append(stage.get('strength', 1.))
    return None if None in sizes else np.array(sizes), np.array(strengths)


def _distinct(values: np.ndarray, names: Sequence[str]) -> Iterator[Tuple[int, str]]:
    """Merge equal columns and their names."""
    merged: Dict[bytes, List[int]] = {}
    for i in range(values.shape[1]):
        merged.setdefault(values[:, i].tobytes(), []).append(i)
    for columns in merged.values():
        yield columns[0], 'all' if len(merged) == 1 else '\n'.join(names[i] for i in columns)
