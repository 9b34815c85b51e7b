"""The whole way on embedded data: draw it, train from scratch, evaluate, fold, evaluate, look."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Union

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..datasets.drawn.scenes import CLASSES
from ..datasets.drawn.shapes import make_shapes
from ..engine import find_checkpoint, lock_directories, make_resumable
from ..folding.reparameterize import reparameterize
from .pictures import draw_detections, draw_segmentations

DATA = 'data/shapes'  # as in the configs
NUM_PICTURES = 8
MAX_DIFFERENCE = 1e-4  # of a metric in [0, 1], between the trained and the folded model


@dataclass(frozen=True)
class Task:
    """What the demo of one task uses, and what it must reach."""

    config: str
    layout: str
    metric: str
    least: float  # lowest good value, in [0, 1]


TASKS = dict(
    detection=Task('configs/detection/ssdlite_mobileone_s0_shapes.py', 'coco', 'mAP_50', .6),
    segmentation=Task('configs/segmentation/deeplabv3_mobileone_s0_shapes.py', 'voc', 'mIoU', .6))


@dataclass(frozen=True)
class Report:
    """The outcome of the demo; metrics are in [0, 1]."""

    metric: str  # the one that must reach ``least``
    trained: Dict[str, float]
    folded: Dict[str, float]
    least: float
    picture: Path

    def problems(self) -> List[str]:
        """What is wrong, in words; empty if all is well."""
        found = [
            f'{self.metric} of the {name} model is {metrics[self.metric]:.3f}, '
            f'expected at least {self.least}'
            for name, metrics in (('trained', self.trained), ('folded', self.folded))
            if not metrics[self.metric] >= self.least  # also catches nan
        ]
        found += [
            f'folding changed {name} from {before:.6f} to {self.folded[name]:.6f}, by more than '
            f'{MAX_DIFFERENCE}' for name, before in self.trained.items()
            if not abs(before - self.folded[name]) <= MAX_DIFFERENCE
        ]
        return found


def run_demo(name: str, root: Union[str, Path], work_dir: Union[str, Path]) -> Report:
    """Run the demo of one task; a second call goes on where the first was interrupted.

    Args:
        name: 'detection' or 'segmentation'.
        root: The repository, which holds the configs. The data go to ``data/shapes`` in the
            current directory, as the configs say.
        work_dir: Where checkpoints, logs and the picture go.

    Raises:
        ValueError: There is no such task.
    """
    if name not in TASKS:
        raise ValueError(f'the demo knows the tasks {", ".join(TASKS)}, got {name!r}')
    task = TASKS[name]
    make_shapes(DATA, task.layout)
    cfg = Config.fromfile(Path(root) / task.config)
    cfg.work_dir = str(work_dir)
    make_resumable(cfg)
    with lock_directories(work_dir):
        checkpoint = find_checkpoint(work_dir)
        cfg.resume, cfg.load_from = checkpoint is not None, checkpoint and str(checkpoint)
        RUNNERS.build(cfg).train()

    runner = _evaluation_runner(cfg)
    trained = _evaluate(name, runner)
    runner.model = reparameterize(runner.model)
    folded = _evaluate(name, runner)
    picture = Path(work_dir) / 'predictions.png'
    _draw(name, runner, picture)
    return Report(task.metric, trained, folded, task.least, picture)


def _evaluation_runner(cfg: Config) -> Runner:
    """A runner with the last checkpoint, and without the hook that tests a folded copy instead."""
    cfg = Config(cfg.to_dict())
    cfg.load_from, cfg.resume = str(find_checkpoint(cfg.work_dir)), False
    cfg.default_hooks = {
        name: hook for name, hook in cfg.default_hooks.items()
        if hook['type'] != 'ReparameterizeHook'}
    return Runner.from_cfg(cfg)


def _evaluate(name: str, runner: Runner) -> Dict[str, float]:
    """Metrics in [0, 1], to at least 4 decimals."""
    if name == 'segmentation':
        return dict(mIoU=runner.test()['mIoU'] / 100)  # in percent, to 2 decimals
    # mmdet's metric rounds to 3 decimals: pycocotools evaluates the file that it writes.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    metric, = runner.test_evaluator.metrics
    metric.outfile_prefix = str(Path(runner.work_dir) / 'detections')
    runner.test()
    truth = COCO(runner.cfg.test_evaluator.ann_file)
    evaluation = COCOeval(truth, truth.loadRes(f'{metric.outfile_prefix}.bbox.json'), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(mAP=evaluation.stats[0], mAP_50=evaluation.stats[1])


def _predict(runner: Runner) -> List:
    """Samples of the first images of the validation part, with annotation and prediction."""
    dataset = runner.test_dataloader.dataset
    runner.model.eval()
    samples: List = []
    with torch.no_grad():
        for index in range(min(NUM_PICTURES, len(dataset))):
            samples += runner.model.test_step(pseudo_collate([dataset[index]]))
    return samples


def _draw(name: str, runner: Runner, path: Path) -> None:
    samples = _predict(runner)
    meta: Dict = runner.test_dataloader.dataset.metainfo
    if name == 'detection':
        draw_detections(samples, meta['classes'], path)
    else:  # shapes stand in for the first object classes of Pascal VOC
        names = [f'{shape} (as {voc})' for shape, voc in zip(CLASSES, meta['classes'][1:])]
        draw_segmentations(samples, ['background', *names], meta['palette'], path)
