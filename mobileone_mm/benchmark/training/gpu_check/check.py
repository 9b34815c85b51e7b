"""Run all parts of the check, in order of importance, within a time budget."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from ...latency.machine import describe
from .correctness import check_blocks
from .processes import merge_runs, run_tool
from .profile import profile_steps
from .report import JSON, DeviceLost, Report, Stopwatch, attempt
from .step_times import Setting, measure_steps
from .trainings import run_trainings
from .verdicts import judge_steps

__all__ = ['PARTS', 'Options', 'run_check']

PARTS = ('training', 'warm', 'steps', 'profile', 'correctness')
# Shares of the budget by which 'training' and 'warm', and then 'steps', end if other parts wait.
FIRST_SHARE, STEPS_SHARE = .4, .75
SECONDS_A_SETTING = 3.


@dataclass
class Options:
    """What to check.

    Attributes:
        out: Folder for the JSON and the Markdown file.
        device: ``'cuda'``, or ``'cpu'`` for the same code at tiny sizes.
        budget: Seconds for all parts.
        parts: Some of :data:`PARTS`. 'warm' has Triton compile the kernels that 'steps' needs.
        archs: Variants to time, the most important first.
        batches: Images per step.
        nets: Nets to time; the default compares the fast engine with 'plain' and 'textbook'.
        shard: (first, step): the blocks to compare, every step-th from the first on.
        resume: Keep the rows in ``out`` and do not measure them again.
    """

    out: Path
    device: str = 'cuda'
    budget: float = 300.
    parts: Sequence[str] = PARTS
    archs: Sequence[str] = ('s0', 's1', 's2', 's3', 's4')
    batches: Sequence[int] = (128, 32)
    nets: Sequence[str] = ('plain', 'textbook', 'analytic')
    shard: Optional[Tuple[int, int]] = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.device == 'cuda' and not torch.cuda.is_available():
            raise ValueError('torch sees no CUDA device; --device cpu runs the check at tiny sizes')

    @property
    def tiny(self) -> bool:
        """Whether nets and data are small, as a CPU allows."""
        return self.device == 'cpu'


def run_check(options: Options) -> dict:
    """Run the parts; every finding is written to ``options.out`` at once.

    Returns:
        The final content of the JSON file.

    Raises:
        ValueError: There is no such device.
    """
    clock = Stopwatch(options.budget)
    report = Report(options.out, _facts(options), options.resume)
    try:
        engines = _engines(options, report)
        _untimed_parts(options, report, clock, engines)
        _timed_parts(options, report, clock, engines)
        if 'correctness' in options.parts:
            _check_blocks(options, report, clock, engines)
        for row in judge_steps(report.sections.get('steps', []), 'analytic'):
            report.add('verdicts', **row)
    except DeviceLost:
        # This process cannot do any more.
        report.add('notes', note='the device was lost: continuing in a new process')
        run_tool(options.out, clock, '--resume', '--device', options.device, '--parts',
                 *options.parts, '--archs', *options.archs, '--nets', *options.nets,
                 '--batches', *options.batches)
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
    """The engines to compare with the textbook; if there is none, a note says why."""
    engines = [net for net in options.nets if net not in ('plain', 'textbook')]
    if options.device == 'cuda' and engines and find_spec('triton') is None:
        report.add('notes', note=f'{" and ".join(engines)} skipped: no module triton')
        return []
    return engines


def _share(options: Options, parts: Sequence[str], share: float) -> float:
    """Seconds of the budget; all of it if only these parts are requested."""
    return options.budget * (share if set(options.parts) - set(parts) else 1.)


def _untimed_parts(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    """Run trainings and compilation side by side: both mostly keep the host busy."""
    first = clock.part(_share(options, ('training', 'warm'), FIRST_SHARE))
    parts = []
    if 'training' in options.parts:
        parts.append(Thread(target=_train, args=(options, report, first)))
    if 'warm' in options.parts and engines and not options.tiny:
        runs = [(f'warm_{arch}', ['--parts', 'steps', '--archs', arch, '--batches', 32,
                                  '--nets', *engines]) for arch in options.archs[:2]]
        parts.append(Thread(target=merge_runs, args=(report, first, 'warm', runs, len(runs))))
    for part in parts:
        part.start()
    for part in parts:
        part.join()


def _train(options: Options, report: Report, clock: Stopwatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix='gpu_check'))
    jobs = 1 if options.tiny else _jobs()
    result = attempt(run_trainings, report, clock, options.device, ['auto'], folder,
                     options.tiny, jobs)
    if result is not None:
        report.add('training', task='all', verdict=result['failed'])
    shutil.rmtree(folder, ignore_errors=True)


def _check_blocks(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    """Compare blocks, in many processes on a GPU because kernels take long to compile."""
    shards = 1 if options.tiny or options.shard or not engines else max(1, _cores() - 2)
    if shards == 1:
        check_blocks(report, clock, options.device, engines, options.tiny, options.shard or (0, 1))
        return
    merge_runs(report, clock, 'correctness', [
        (f'blocks_{i}', ['--parts', 'correctness', '--shard', i, shards, '--nets', *engines])
        for i in range(shards)], shards)


def _cores() -> int:
    return os.cpu_count() or 2


def _jobs() -> int:
    """How many trainings fit side by side: about 12 GiB of GPU memory and two cores each."""
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(8, int(free / (12 << 30)), _cores() // 2))


def _timed_parts(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    nets = [net for net in options.nets if net in ('plain', 'textbook', *engines)]
    torch.backends.cudnn.benchmark = True
    if 'steps' in options.parts:
        rest = options.budget - _share(options, ('training', 'warm', 'steps'), STEPS_SHARE)
        until = clock.part(clock.left() - rest)
        for setting in _settings(options):
            measure_steps(report, until, options.device, setting, nets,
                          .2 if options.tiny else SECONDS_A_SETTING)
    if 'profile' in options.parts:
        for precision in ('amp', ) if options.tiny else ('float32', 'amp'):
            setting = next(_settings(options))._replace(precision=precision)
            profile_steps(report, clock, options.device, setting, nets)


def _settings(options: Options) -> Iterator[Setting]:
    """S0 and S1 in all settings; other variants with the largest batch, then smaller ones."""
    if options.tiny:
        yield from (Setting(arch, 2, precision, 'eager', 32)
                    for arch, precision in product(options.archs, ('float32', 'amp')))
        return
    few = [arch for arch in options.archs if arch in ('s0', 's1')]
    others = [arch for arch in options.archs if arch not in few]
    modes = [(batch, mode) for batch in options.batches for mode in ('graph', 'eager')]
    for archs, kinds in ((few, modes), (others, modes[1:2]), (others, [(32, 'graph')])):
        for arch, (batch, mode), precision in product(archs, kinds, ('float32', 'amp')):
            if batch in options.batches:
                yield Setting(arch, batch, precision, mode)
