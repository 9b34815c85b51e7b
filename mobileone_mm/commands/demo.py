"""The demo: draw data, train from scratch, evaluate, fold, evaluate again, draw a picture."""

import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from ..datasets.drawn.scenes import CLASSES
from ..datasets.drawn.shapes import make_shapes
from ..engine import find_checkpoint, lock_directories, make_resumable
from ..folding.reparameterize import reparameterize
from .pictures import Row, detection_rows, draw_rows, segmentation_rows

DATA = 'data/shapes'  # as in the configs
NUM_PICTURES = 4
MAX_DIFFERENCE = 1e-4  # of metrics in [0, 1], between the trained and the folded model


@dataclass(frozen=True)
class Task:
    """Settings of the demo of one task, and the metric it must reach."""

    config: str
    layout: str
    metric: str
    least: float  # minimum, in [0, 1]


TASKS = dict(
    detection=Task('configs/detection/ssdlite_mobileone_s0_shapes.py', 'coco', 'mAP_50', .6),
    segmentation=Task('configs/segmentation/deeplabv3_mobileone_s0_shapes.py', 'voc', 'mIoU', .6))


@dataclass(frozen=True)
class Report:
    """The outcome of the demo; metrics are in [0, 1], pairs are trained and folded."""

    metric: str  # the one that must reach ``least``
    trained: Dict[str, float]
    folded: Dict[str, float]
    least: float
    picture: Path
    megabytes: Tuple[float, float] = (0., 0.)  # size of the weights
    milliseconds: Tuple[float, float] = field(default=(0., 0.), compare=False)  # time per image
    rows: Sequence[Row] = field(default=(), compare=False)

    def caption(self) -> str:
        """Metric, size and speed before and after folding, in one line."""
        threads = torch.get_num_threads()
        return (f'{self.metric} {self.trained[self.metric]:.3f} → {self.folded[self.metric]:.3f},  '
                '{:.1f} → {:.1f} MB,  '.format(*self.megabytes)
                + '{:.0f} → {:.0f} ms'.format(*self.milliseconds)
                + f' on {threads} CPU thread' + 's' * (threads > 1))

    def problems(self) -> List[str]:
        """What is wrong, in words; empty if nothing is."""
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


class _ProgressHook(Hook):
    """Prints how far the training is, and how long it will take."""

    priority = 'VERY_LOW'

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = 0.

    def before_train(self, runner: Runner) -> None:
        self._start, self._first = time.monotonic(), runner.iter
        left = runner.max_iters - runner.iter
        if left:
            self._say(f'training: {left} of {runner.max_iters} iterations')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        done, now = runner.iter + 1 - self._first, time.monotonic()
        if done == 20 or now - self._last > 30 and done > 20:  # the first ones compile kernels
            self._last = now
            left = (now - self._start) / done * (runner.max_iters - runner.iter - 1)
            self._say(f'  epoch {runner.epoch + 1} of {runner.max_epochs}, '
                      f'loss {float((outputs or {})["loss"]):.2f}, about {left / 60:.1f} min left')

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        found = {name.split('/')[-1]: value for name, value in (metrics or {}).items()}
        for name, unit in (('bbox_mAP_50', 1), ('mIoU', 100)):
            if name in found:
                self._say(f'  validated folded: {name} {found[name] / unit:.3f}')


def run_demo(name: str, root: Union[str, Path], work_dir: Union[str, Path]) -> Report:
    """Run the demo of one task; a second call continues where the first was interrupted.

    The console shows the current step and the result. Everything else goes to ``demo.log`` in the
    work directory.

    Args:
        name: 'detection' or 'segmentation'.
        root: The repository, which holds the configs. As the configs expect, data go to
            ``data/shapes`` in the current directory.
        work_dir: Directory for checkpoints, logs and the picture.

    Raises:
        ValueError: The task is unknown.
    """
    if name not in TASKS:
        raise ValueError(f'the demo knows the tasks {", ".join(TASKS)}, got {name!r}')
    task = TASKS[name]
    make_shapes(DATA, task.layout)
    cfg = Config.fromfile(Path(root) / task.config)
    cfg.work_dir = str(work_dir)
    make_resumable(cfg)
    with lock_directories(work_dir), _log_to(Path(work_dir) / 'demo.log') as say:
        checkpoint = find_checkpoint(work_dir)
        cfg.resume, cfg.load_from = checkpoint is not None, checkpoint and str(checkpoint)
        if checkpoint:
            say(f'continuing from {checkpoint}')
        runner = RUNNERS.build(cfg)
        runner.register_hook(_ProgressHook(say))
        runner.train()

        runner = _evaluation_runner(cfg)
        say('testing the trained model')
        unfolded = runner.model
        trained = _evaluate(name, runner)
        say('testing the folded model')
        runner.model = reparameterize(unfolded)
        folded = _evaluate(name, runner)
        meta: Dict = runner.test_dataloader.dataset.metainfo
        samples = _predict(runner)
        rows = (detection_rows(samples, meta['classes']) if name == 'detection' else
                segmentation_rows(samples))
        report = Report(
            task.metric, trained, folded, task.least, Path(work_dir) / 'predictions.png',
            (_megabytes(unfolded), _megabytes(runner.model)),
            _milliseconds(unfolded, runner), rows)
        draw_report(name, report)
    return report


def draw_report(name: str, report: Report) -> None:
    """Write the picture of one task."""
    draw_rows(report.rows, report.picture, f'MobileOne-S0 on drawn shapes: {name}',
              f'before → after folding:  {report.caption()}', _legend(name))


def draw_both(detection: Report, segmentation: Report, path: Union[str, Path]) -> None:
    """Write one picture of both tasks: the folded models' predictions on the same scenes."""
    draw_rows([detection.rows[-1], segmentation.rows[-1]], path,
              'MobileOne-S0, folded: SSDLite and DeepLabV3',
              f'SSDLite, before → after folding:  {detection.caption()}\n'
              f'DeepLabV3, before → after folding:  {segmentation.caption()}')


def _legend(name: str) -> Sequence[str]:
    return CLASSES if name == 'segmentation' else ()


@contextmanager
def _log_to(path: Path) -> Iterator[Callable[[str], None]]:
    """Redirect prints and logs to a file; yields a function that still prints."""
    console = sys.stdout

    def say(text: str) -> None:
        print(text, file=console, flush=True)

    path.parent.mkdir(parents=True, exist_ok=True)
    say(f'full log: {path}')
    with open(path, 'a') as file, redirect_stdout(file), redirect_stderr(file):
        yield say


def _evaluation_runner(cfg: Config) -> Runner:
    """A runner with the last checkpoint, without the hook that would test a folded copy."""
    cfg = Config(cfg.to_dict())
    cfg.load_from, cfg.resume = str(find_checkpoint(cfg.work_dir)), False
    cfg.default_hooks = {
        name: hook for name, hook in cfg.default_hooks.items()
        if hook['type'] != 'ReparameterizeHook'}
    return Runner.from_cfg(cfg)


def _evaluate(name: str, runner: Runner) -> Dict[str, float]:
    """Test; returns metrics in [0, 1] with at least 4 decimals."""
    if name == 'segmentation':
        return dict(mIoU=runner.test()['mIoU'] / 100)  # in percent, with 2 decimals
    # mmdet's metric rounds to 3 decimals, so pycocotools evaluates its result file again.
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
    """The first validation images as samples with annotations and predictions."""
    dataset = runner.test_dataloader.dataset
    runner.model.eval()
    samples: List = []
    with torch.no_grad():
        for index in range(min(NUM_PICTURES, len(dataset))):
            samples += runner.model.test_step(pseudo_collate([dataset[index]]))
    return samples


def _megabytes(model: nn.Module) -> float:
    """Bytes of parameters and buffers."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values()) / 1e6


def _milliseconds(unfolded: nn.Module, runner: Runner, rounds: int = 15) -> Tuple[float, float]:
    """Median times per image of the unfolded and the runner's model, run alternately."""
    models = (unfolded.eval(), runner.model.eval())
    times: Tuple[List[float], List[float]] = ([], [])
    batch = pseudo_collate([runner.test_dataloader.dataset[0]])
    with torch.no_grad():
        for _ in range(rounds):
            for model, found in zip(models, times):
                start = time.perf_counter()
                model.test_step(batch)
                found.append((time.perf_counter() - start) * 1e3)
    return median(times[0]), median(times[1])
