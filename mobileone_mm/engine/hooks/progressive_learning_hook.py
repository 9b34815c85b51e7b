"""Raise resolution and augmentation strength in steps during training (paper, section 3.4)."""

import copy
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.wrapped import inner_datasets

# Transform -> its argument: crops of mmpretrain and mmseg, resizing of mmdet.
RESOLUTION = dict(RandomResizedCrop='scale', RandomCrop='crop_size', Resize='scale')
# Transform -> what the strength multiplies: mmpretrain's magnitude, or the share of images.
STRENGTH = dict(RandAugment='magnitude_level', RandomApply='prob')


@HOOKS.register_module()
class ProgressiveLearningHook(Hook):
    """Train in stages of growing input resolution and augmentation strength.

    At the first epoch of a stage, the training pipeline is rebuilt from the config with another
    resolution and strength, and persistent workers are restarted. The stage depends only on the
    epoch, so a resumed run continues like the uninterrupted one.

    For example, the steps of mmpretrain's recipe for MobileOne::

        dict(type='ProgressiveLearningHook', stages=[
            dict(epoch=1, resolution=160, strength=0.3),
            dict(epoch=37, resolution=192, strength=0.7),
            dict(epoch=112, resolution=224, strength=1.0)])

    Args:
        stages: Dicts with ``epoch``, the first epoch of the stage, counted from 1 as in logs;
            ``resolution`` in pixels, a number for squares or a pair in the transform's order; and
            ``strength``, a factor for the config's value. Either resolution or strength may be
            missing from all stages.
        resolution_keys: Which argument of which transform is the resolution. Defaults to
            ``RESOLUTION`` of this module.
        strength_keys: Which argument of which transform the strength multiplies. Defaults to
            ``STRENGTH`` of this module.

    Raises:
        ValueError: The stages are malformed; or, before training, no transform of the training
            pipeline has such an argument, or a stage begins after the last epoch.
    """

    def __init__(self,
                 stages: Sequence[Dict[str, Any]],
                 resolution_keys: Optional[Mapping[str, str]] = None,
                 strength_keys: Optional[Mapping[str, str]] = None) -> None:
        self.stages = check_stages(stages)
        self.resolution_keys = dict(RESOLUTION if resolution_keys is None else resolution_keys)
        self.strength_keys = dict(STRENGTH if strength_keys is None else strength_keys)
        self._current: Optional[Dict[str, Any]] = None

    def stage_of(self, epoch: int) -> Dict[str, Any]:
        """The stage of an epoch, counted from 1."""
        return [stage for stage in self.stages if stage['epoch'] <= epoch][-1]

    def pipeline_of(self, pipeline: Sequence[dict], stage: Dict[str, Any]) -> Tuple[list, int]:
        """A pipeline's config for one stage, and how many of its arguments were replaced."""
        changed, count = copy.deepcopy(list(pipeline)), 0
        for transform in _transforms(changed):
            kind = str(transform['type']).rsplit('.', 1)[-1]
            for keys, value in ((self.resolution_keys, stage.get('resolution')),
                                (self.strength_keys, stage.get('strength'))):
                key = keys.get(kind)
                if value is None or key is None or transform.get(key) is None:
                    continue
                old = transform[key]
                if keys is self.strength_keys:
                    transform[key] = old * value
                else:
                    transform[key] = _like(old, value)
                count += 1
        return changed, count

    def before_train(self, runner: Runner) -> None:
        """Refuse stages that would do nothing."""
        if self.stages[-1]['epoch'] > runner.max_epochs:
            raise ValueError(f'a stage begins in epoch {self.stages[-1]["epoch"]}, but training '
                             f'ends with epoch {runner.max_epochs}')
        configs = list(pipelines_of(runner.cfg.train_dataloader.dataset))
        for name, keys in (('resolution', self.resolution_keys), ('strength', self.strength_keys)):
            if name not in self.stages[0]:
                continue
            stage = {name: self.stages[0][name]}
            if not any(self.pipeline_of(pipeline, stage)[1] for pipeline in configs):
                raise ValueError(
                    f'no transform of the training pipeline takes the {name} of the stages; '
                    f'known are {keys}: name yours in {name}_keys')

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch the training pipeline if a new stage begins."""
        stage = self.stage_of(runner.epoch + 1)
        if stage is self._current:
            return
        loader = runner.train_loop.dataloader
        for dataset, pipeline in _pairs(loader.dataset, runner.cfg.train_dataloader.dataset):
            changed, count = self.pipeline_of(pipeline, stage)
            if count:
                dataset.pipeline = Compose(changed)
        # Persistent workers hold copies of the old pipeline: the next epoch starts new ones.
        loader._iterator = None
        self._current = stage
        runner.logger.info(f'Progressive learning: {_describe(stage)} from epoch '
                           f'{runner.epoch + 1} on')


def check_stages(stages: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Check the form and the order of the stages.

    Raises:
        ValueError: They are wrong; the message says what was expected.
    """
    stages = [dict(stage) for stage in stages]
    if not stages:
        raise ValueError('stages must hold at least one stage')
    for stage in stages:
        if set(stage) != set(stages[0]) or not {'epoch'} < set(stage) <= {
                'epoch', 'resolution', 'strength'}:
            raise ValueError('every stage needs epoch, and resolution or strength or both, the '
                             f'same in all stages; got {stage}')
        sides = stage.get('resolution', 1)
        sides = sides if isinstance(sides, (list, tuple)) else [sides]
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f'a resolution must be positive integers, got {stage["resolution"]!r}')
        if stage.get('strength', 0) < 0:
            raise ValueError(f'a strength must not be negative, got {stage["strength"]!r}')
    epochs = [stage['epoch'] for stage in stages]
    if epochs[0] != 1 or epochs != sorted(set(epochs)):
        raise ValueError(f'the stages must begin in epoch 1 and in rising order, got {epochs}')
    return stages


def _describe(stage: Dict[str, Any]) -> str:
    return ', '.join(f'{k} {v}' for k, v in stage.items() if k != 'epoch')


def _like(old: Any, value: Any) -> Any:
    """A resolution in the config's form: a number, or a pair."""
    if isinstance(old, (list, tuple)) and not isinstance(value, (list, tuple)):
        return (value, value)
    return value


def _transforms(node: Any) -> Iterator[dict]:
    """Every transform in a pipeline's config, including nested ones."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _transforms(child)


def resolutions(pipelines: Iterable[Sequence[dict]],
                keys: Optional[Mapping[str, str]] = None) -> List[Tuple[int, int]]:
    """The resolutions in the configs of pipelines, as pairs in the order of the transforms.

    Args:
        pipelines: Configs of pipelines.
        keys: As ``resolution_keys`` of the hook.
    """
    keys, found = RESOLUTION if keys is None else keys, []
    for transform in _transforms(list(pipelines)):
        value = transform.get(keys.get(str(transform['type']).rsplit('.', 1)[-1]))
        if value is not None:
            found.append((value, value) if isinstance(value, int) else tuple(value))
    return found


def pipelines_of(config: dict) -> Iterator[list]:
    """The pipelines in a data set's config, however wrapped."""
    if config.get('pipeline'):
        yield config['pipeline']
    for part in inner_datasets(config):
        yield from pipelines_of(part)


def _pairs(dataset: Any, config: dict) -> Iterator[Tuple[Any, list]]:
    """Every data set with a pipeline, with the pipeline's config, however wrapped."""
    dataset = getattr(dataset, '_dataset', dataset)  # made by num_batch_per_epoch
    if config.get('pipeline') and isinstance(getattr(dataset, 'pipeline', None), Compose):
        yield dataset, config['pipeline']
    for part, its_config in zip(inner_datasets(dataset), inner_datasets(config)):
        yield from _pairs(part, its_config)
