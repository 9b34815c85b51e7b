"""Train a detector and a segmentor with tools/train.py on drawn data, then resume them."""

import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .processes import ROOT, environment
from .report import Report, Stopwatch

__all__ = ['run_trainings']

EPOCHS = 2  # and one more after resuming
FOLDED = re.compile(r'Folded and unfolded outputs differ by at most (\S+)')


class Task(NamedTuple):
    """A config to train, and settings that adapt it to the drawn data."""

    config: str
    layout: str
    data: str  # below the drawn data
    library: str
    options: Sequence[str]


CLASSES = '(circle,square,triangle,star,cross,ring)'
TASKS = {
    'SSDLite-S2': Task(
        'configs/detection/ssdlite_mobileone_s2_coco.py', 'coco', 'coco/', 'mmdet',
        ('model.bbox_head.num_classes=6',
         *(f'{part}_dataloader.dataset.metainfo.classes={CLASSES}'
           for part in ('train', 'val', 'test')))),
    'DeepLabV3-S1': Task(
        'configs/segmentation/deeplabv3_mobileone_s1_voc12aug.py', 'voc',
        'VOCdevkit/VOC2012', 'mmseg', ()),
}
TINY_TASKS = {
    'SSDLite-S0, 128 px': Task(
        'configs/detection/ssdlite_mobileone_s0_shapes.py', 'coco', 'coco/', 'mmdet', ()),
    'DeepLabV3-S0, 128 px': Task(
        'configs/segmentation/deeplabv3_mobileone_s0_shapes.py', 'voc',
        'VOCdevkit/VOC2012', 'mmseg', ()),
}


class Run(NamedTuple):
    """One training."""

    name: str
    task: Task
    amp: bool
    engine: str


def run_trainings(report: Report, clock: Stopwatch, device: str, engines: Sequence[str],
                  folder: Path, tiny: bool, jobs: int) -> None:
    """Add a row per training to the section 'training'.

    Each trains for a few dozen iterations, validates the folded model after each epoch, and is then
    resumed for one more epoch.

    Args:
        report: Where rows go.
        clock: When it has run out, running trainings are stopped.
        device: ``'cpu'`` hides all GPUs.
        engines: Values of ``model.backbone.branch_engine``.
        folder: Folder for data and checkpoints.
        tiny: Whether to use smaller networks, and mixed precision only for the first.
        jobs: Trainings side by side.
    """
    runs = []
    for name, task in (TINY_TASKS if tiny else TASKS).items():
        if find_spec(task.library) is None:
            report.add('training', task=name, verdict=f'skipped: {task.library} is not installed')
            continue
        _draw(task, folder, tiny)
        runs += [Run(name, task, amp, engine) for engine in engines
                 for amp in ((True, ) if tiny else (False, True))]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for row in pool.map(lambda run: _train(run, clock, device, folder, tiny), runs):
            report.add('training', **row)


def _draw(task: Task, folder: Path, tiny: bool) -> None:
    count = ('6', '2') if tiny else ('96', '16')
    subprocess.run([sys.executable, str(ROOT / 'tools/make_shapes.py'), '--out', str(folder),
                    '--layout', task.layout, '--num-train', count[0], '--num-val', count[1]],
                   check=True, env=environment('cpu'))


def _command(run: Run, folder: Path, work_dir: Path, tiny: bool) -> List[str]:
    batch, workers = ('2', '0') if tiny else ('16', '2')
    options = [
        f'data_root={folder / run.task.data}/'.replace('//', '/'),
        *run.task.options,
        f'model.backbone.branch_engine={run.engine}',
        f'train_dataloader.batch_size={batch}',
        'default_hooks.logger.interval=1',
        f'train_cfg.max_epochs={EPOCHS}',
        'train_cfg.val_interval=1',
        'randomness.seed=0',
        *(f'{part}_dataloader.{key}' for part in ('train', 'val', 'test')
          for key in (f'num_workers={workers}', f'persistent_workers={workers != "0"}')),
    ]
    if not tiny:  # the small configs have random weights anyway
        options.append('model.backbone.init_cfg=None')
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / run.task.config),
               '--work-dir', str(work_dir)]
    return [*command, *(['--amp'] if run.amp else []), '--cfg-options', *options]


def _train(run: Run, clock: Stopwatch, device: str, folder: Path, tiny: bool) -> dict:
    """The row of one training."""
    precision = 'amp' if run.amp else 'float32'
    row: Dict[str, Any] = dict(task=run.name, precision=precision, engine=run.engine)
    work_dir = folder / 'work_dirs' / f'{run.task.library}_{precision}_{run.engine}'
    command = _command(run, folder, work_dir, tiny)
    start = time.monotonic()
    first = _run(command, clock, device)
    row['seconds'] = round(time.monotonic() - start, 1)
    if first.error:
        return dict(row, verdict=f'training failed: {first.error}', command=command)
    losses = _losses(work_dir)
    again = [word.replace(f'max_epochs={EPOCHS}', f'max_epochs={EPOCHS + 1}') for word in command]
    second = _run([*again[:5], '--resume', *again[5:]], clock, device)
    row['resumed_seconds'] = round(time.monotonic() - start - row['seconds'], 1)
    if second.error:
        return dict(row, verdict=f'resumption failed: {second.error}', command=command)
    after = _losses(work_dir)
    return dict(row, **_findings(losses, after, first.output + second.output, work_dir),
                command=command)


class Outcome(NamedTuple):
    """The output of a command, and how it failed, if it did."""

    output: str
    error: str


def _run(command: Sequence[str], clock: Stopwatch, device: str) -> Outcome:
    if clock.left() < 0:
        return Outcome('', 'out of time')
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors='replace', cwd=str(ROOT), env=environment(device),
                              timeout=clock.left())
    except subprocess.TimeoutExpired:
        return Outcome('', 'out of time')
    failed = done.stdout.strip()[-1500:] or 'no output' if done.returncode else ''
    return Outcome(done.stdout, failed)


def _losses(work_dir: Path) -> Dict[int, dict]:
    """The log of the last run, by iteration."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in logs[-1].read_text().splitlines()] if logs else []
    return {row['step']: row for row in rows if 'loss' in row}


def _findings(losses: Dict[int, dict], after: Dict[int, dict], output: str, work_dir: Path
              ) -> dict:
    """Numbers and verdict of a training that succeeded, and of the resumed one."""
    folded = [float(value) for value in FOLDED.findall(output)]
    values = [row['loss'] for row in (*losses.values(), *after.values())]
    problems = []
    if not values or not all(math.isfinite(value) for value in values):
        problems.append('a loss is not finite')
    if len(folded) < EPOCHS + 1:
        problems.append(f'{len(folded)} validations of a folded model instead of {EPOCHS + 1}')
    if not losses or not after or min(after) != max(losses) + 1:
        problems.append(f'resumed at {min(after, default=None)} after {max(losses, default=None)}')
    if not list(work_dir.glob('*_deploy.pth')):
        problems.append('no folded weights were written')
    memory = [row['memory'] for row in after.values() if 'memory' in row]
    return dict(iterations=max(after, default=0), first_loss=_at(values, 0),
                last_loss=_at(values, -1), folding_difference=max(folded, default=None),
                memory_mb=max(memory, default=None), verdict='; '.join(problems) or 'ok')


def _at(values: List[float], index: int) -> Optional[float]:
    return values[index] if values else None
