"""All parts of the check, in order of importance, within one budget of time."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch

from ...latency.machine import describe
from .correctness import check_blocks
from .profile import profile_steps
from .report import JSON, DeviceLost, Report, Stopwatch, attempt
from .step_times import Setting, measure_steps
from .trainings import ROOT, run_trainings
from .verdicts import judge_steps

__all__ = ['PARTS', 'Options', 'run_check']

PARTS = ('training', 'correctness', 'steps', 'profile', 'compiled')
TRITON_BRANCHES = 'mobileone_mm.branches.triton'
# Shares of the budget: when trainings and blocks must be done, what the parts after 'steps' have.
FIRST_SHARE, LAST_SHARE = .5, .1
SECONDS_A_SETTING = 4.


@dataclass
class Options:
    """What to check.

    Attributes:
        out: Folder for the JSON and the Markdown file.
        device: ``'cuda'``, or ``'cpu'`` for the same code at tiny sizes.
        budget: Seconds for all.
        parts: Some of :data:`PARTS`.
        archs: Variants to time, the most important first.
        batches: Images a step.
        nets: To time; the default compares the fast engine with 'plain' and 'textbook'.
        jobs: Trainings side by side; ``None`` as memory and cores allow.
        resume: Keep the rows that are in ``out`` and do not measure them again.
    """

    out: Path
    device: str = 'cuda'
    budget: float = 300.
    parts: Sequence[str] = PARTS
    archs: Sequence[str] = ('s0', 's1', 's2', 's3', 's4')
    batches: Sequence[int] = (128, 32)
    nets: Sequence[str] = ('plain', 'textbook', 'analytic')
    jobs: Optional[int] = None
    resume: bool = False
    tiny: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.device == 'cuda' and not torch.cuda.is_available():
            raise ValueError('torch sees no CUDA device; --device cpu runs the same at tiny sizes')
        self.tiny = self.device == 'cpu'


def run_check(options: Options) -> dict:
    """Run the parts; every finding is in ``options.out`` at once.

    Returns:
        What is in the JSON file at the end.

    Raises:
        ValueError: There is no such device.
    """
    clock = Stopwatch(options.budget)
    report = Report(options.out, _facts(options), options.resume)
    try:
        engines = _engines(options, report)
        _run_parts(options, report, clock, engines)
        for row in judge_steps(report.sections.get('steps', []), 'analytic'):
            report.add('verdicts', **row)
    except DeviceLost:
        # No more is to be had from this process.
        report.add('notes', note='the device was lost: going on in a new process')
        _run_again(options, clock)
    return json.loads((options.out / JSON).read_text())


def _facts(options: Options) -> Dict[str, Any]:
    facts: Dict[str, Any] = dict(
        device=torch.cuda.get_device_name() if options.device == 'cuda' else 'cpu',
        torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
        tf32_convolutions=torch.backends.cudnn.allow_tf32,
        tf32_matmul=torch.backends.cuda.matmul.allow_tf32, budget_s=options.budget)
    if options.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        facts.update(memory_gib=round(properties.total_memory / 2**30, 1),
                     multiprocessors=properties.multi_processor_count,
                     compute_capability=f'{properties.major}.{properties.minor}')
    return dict(facts, machine=describe())


def _engines(options: Options, report: Report) -> List[str]:
    """The engines to be compared with the textbook; says why there is none."""
    engines = [net for net in options.nets if net not in ('plain', 'textbook', 'compiled')]
    if options.device == 'cpu':
        return engines
    for name in ('triton', TRITON_BRANCHES):
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            report.add('notes', note=f'{" and ".join(engines)} skipped: no module {name}')
            return []
    return engines


def _run_parts(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    first = clock.part(FIRST_SHARE * options.budget)
    trainings = Thread(target=_train, args=(options, report, first, engines))
    if 'training' in options.parts:  # most of it is start-up: the blocks are checked meanwhile
        trainings.start()
    try:
        if 'correctness' in options.parts:
            check_blocks(report, first, options.device, engines, options.tiny)
    finally:
        if trainings.ident:
            trainings.join()
    nets = [net for net in options.nets if net in ('plain', 'textbook', 'compiled', *engines)]
    if 'steps' in options.parts:
        last = 0. if options.parts == ['steps'] else LAST_SHARE * options.budget
        until = clock.part(clock.left() - last)
        torch.backends.cudnn.benchmark = True
        for setting in _settings(options):
            measure_steps(report, until, options.device, setting, nets,
                          .2 if options.tiny else SECONDS_A_SETTING)
    if 'profile' in options.parts:
        for precision in ('amp', ) if options.tiny else ('float32', 'amp'):
            setting = next(_settings(options))._replace(precision=precision)
            profile_steps(report, clock, options.device, setting, nets)
    if 'compiled' in options.parts:
        _compile(options, report, clock)


def _settings(options: Options) -> Iterator[Setting]:
    """S0 and S1 in all settings, then the others where goals are judged."""
    if options.tiny:
        yield from (Setting(arch, 2, precision, 'eager', 32)
                    for arch, precision in product(options.archs, ('float32', 'amp')))
        return
    for arch in options.archs:
        for batch in options.batches:
            modes = ('graph', 'eager') if batch <= 32 else ('eager', )
            for mode, precision in product(modes, ('float32', 'amp')):
                if arch in ('s0', 's1') or (mode == 'graph') == (batch <= 32):
                    yield Setting(arch, batch, precision, mode)


def _train(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix='gpu_check'))
    try:
        jobs = options.jobs or (1 if options.tiny else _jobs())
        result = attempt(run_trainings, report, clock, options.device, ['auto', *engines], folder,
                         options.tiny, jobs)
        if result is not None:
            report.add('training', task='all', verdict=result['failed'])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _jobs() -> int:
    """Trainings that fit side by side: about 12 GiB of GPU memory and two cores each."""
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(8, int(free / (12 << 30)), (os.cpu_count() or 2) // 2))


def _compile(options: Options, report: Report, clock: Stopwatch) -> None:
    """Time the textbook in torch.compile, each setting in a process that can be ended."""
    settings = [('s0', batch) for batch in options.batches]
    for arch, batch in settings[:1] if options.tiny else settings:
        if clock.left() < 0:
            report.add('notes', note=f'compiled {arch}, batch {batch}: skipped, out of time')
            return
        folder = options.out / f'compiled_{arch}_{batch}'
        done = attempt(_run_tool, folder, clock, '--device', options.device, '--parts', 'steps',
                       '--archs', arch, '--batches', str(batch), '--nets', 'plain', 'compiled')
        if 'failed' in done:
            report.add('notes', note=f'compiled {arch}, batch {batch}: {done["failed"]}')
        for row in done.get('sections', {}).get('steps', ()):
            if row['net'] == 'compiled':
                report.add('steps', **row)
        shutil.rmtree(folder, ignore_errors=True)


def _run_again(options: Options, clock: Stopwatch) -> None:
    _run_tool(options.out, clock, '--resume', '--device', options.device,
              '--parts', *options.parts, '--archs', *options.archs, '--nets', *options.nets,
              '--batches', *map(str, options.batches))


def _run_tool(out: Path, clock: Stopwatch, *args: str) -> dict:
    """Run this very check in another process.

    Raises:
        subprocess.SubprocessError: It failed, or there was no time left.
    """
    command = [sys.executable, str(ROOT / 'tools/benchmark/gpu_check.py'), '--out', str(out),
               '--budget-s', f'{clock.left():.0f}', *args]
    subprocess.run(command, check=True, timeout=max(1., clock.left()))
    return json.loads((out / JSON).read_text())
