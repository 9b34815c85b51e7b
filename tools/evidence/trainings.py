"""Run trainings one after another, each in a process that inherits the imported libraries.

Each training starts like in tools/train.py and has its own peak memory, but imports only cost time
once.
"""

import importlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mobileone_mm.commands.train_test import train

TIMES = 'cpu_seconds.json'
for library in ('mmdet', 'mmseg'):  # after mobileone_mm, which has what mmcv-lite lacks
    for part in ('datasets', 'engine', 'evaluation', 'models'):
        importlib.import_module(f'{library}.{part}')


@HOOKS.register_module()
class CPUTimeHook(Hook):
    """Writes the CPU time of each iteration, which other programs hardly affect."""

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Start an empty list."""
        self.seconds: List[float] = []

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Start the clock, once the batch is loaded."""
        self.start = time.process_time()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Stop the clock, once the weights are updated."""
        self.seconds.append(time.process_time() - self.start)

    def after_train(self, runner: Runner) -> None:
        """Write the times."""
        Path(runner.work_dir, TIMES).write_text(json.dumps(self.seconds))


class Training(NamedTuple):
    """What a training logged."""

    iterations: List[Dict[str, Any]]
    metrics: Dict[str, float]
    cpu_seconds: List[float]

    @property
    def cpu_seconds_an_iteration(self) -> float:
        """The median; the first iteration compiles and allocates."""
        return statistics.median(self.cpu_seconds[1:] or self.cpu_seconds)


def run(config: Path, work_dir: Path, *options: str, amp: bool = False) -> Training:
    """Train a config with options in the form of ``--cfg-options``.

    Its output goes to ``work_dir/output.txt``.

    Raises:
        RuntimeError: The training failed.
    """
    output = work_dir / 'output.txt'
    work_dir.mkdir(parents=True, exist_ok=True)
    # A process that has used the GPU, even for its name, cannot be forked.
    method = 'spawn' if torch.cuda.device_count() else 'fork'
    process = multiprocessing.get_context(method).Process(
        target=_train, args=([str(config), '--work-dir', str(work_dir), *(['--amp'] * amp),
                              '--cfg-options', *options,
                              'default_hooks.cpu_time.type=CPUTimeHook'], output))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f'{config}: {output.read_text().strip().splitlines()[-1:]}')
    log = max(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return Training([row for row in rows if 'loss' in row],
                    [row for row in rows if 'loss' not in row][-1],
                    json.loads((work_dir / TIMES).read_text()))


def _train(arguments: List[str], output: Path) -> None:
    sys.stdout = sys.stderr = open(output, 'w', buffering=1)  # open until the process ends
    for stream in (1, 2):  # also what libraries print
        os.dup2(sys.stdout.fileno(), stream)
    train(arguments)
