"""All parts of the check, in order of importance, within one budget of time."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

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

TIMED = ('steps', 'profile', 'compiled')
PARTS = ('warm', 'training', 'correctness', *TIMED)
TRITON_BRANCHES = 'mobileone_mm.branches.triton'
# Shares of the budget: when what does not time must be done; what is left to the parts after steps.
FIRST_SHARE, LAST_SHARE = .5, .1
SECONDS_A_SETTING = 4.


@dataclass
class Options:
    """What to check.

    Attributes:
        out: Folder for the JSON and the Markdown file.
        device: ``'cuda'``, or ``'cpu'`` for the same code at tiny sizes.
        budget: Seconds for all.
        parts: Some of :data:`PARTS`. 'warm' has Triton compile the kernels that 'steps' needs.
        archs: Variants to time, the most important first.
        batches: Images a step.
        nets: To time; the default compares the fast engine with 'plain' and 'textbook'.
        jobs: Trainings side by side; ``None`` as memory and cores allow.
        shard: Of the blocks to compare, every second number's from the first number's on.
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
    shard: Optional[Tuple[int, int]] = None
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
        share = FIRST_SHARE if set(options.parts) & set(TIMED) else 1.
        _side_by_side(_early_parts(options, report, clock.part(share * options.budget), engines))
        _timed_parts(options, report, clock, engines)
        for row in judge_steps(report.sections.get('steps', []), 'analytic'):
            report.add('verdicts', **row)
    except DeviceLost:
        # No more is to be had from this process.
        report.add('notes', note='the device was lost: going on in a new process')
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
    """The engines to be compared with the textbook; says why there is none."""
    engines = [net for net in options.nets if net not in ('plain', 'textbook', 'compiled')]
    if options.device == 'cpu':
        return engines
    for name in ('triton', TRITON_BRANCHES):
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing and engines:
            report.add('notes', note=f'{" and ".join(engines)} skipped: no module {name}')
            return []
    return engines


def _early_parts(options: Options, report: Report, clock: Stopwatch, engines: List[str]
                 ) -> List[Callable[[], None]]:
    """What is not timed, to be done side by side: most of it is start-up and compilation."""
    def training() -> None:
        folder = Path(tempfile.mkdtemp(prefix='gpu_check'))
        jobs = options.jobs or (1 if options.tiny else _jobs())
        result = attempt(run_trainings, report, clock, options.device, ['auto', *engines], folder,
                         options.tiny, jobs)
        if result is not None:
            report.add('training', task='all', verdict=result['failed'])
        shutil.rmtree(folder, ignore_errors=True)

    def correctness() -> None:
        shards = 1 if options.tiny or options.shard or not engines else _cores() // 2
        if shards == 1:
            check_blocks(report, clock, options.device, engines, options.tiny,
                         options.shard or (0, 1))
            return
        merge_runs(report, clock, 'correctness', [
            (f'blocks_{i}', ['--parts', 'correctness', '--shard', i, shards, '--nets', *engines])
            for i in range(shards)], shards)

    def warm() -> None:
        if engines and not options.tiny:
            merge_runs(report, clock, 'warm', [
                (f'warm_{arch}', ['--parts', 'steps', '--archs', arch, '--batches', 32,
                                  '--nets', *engines]) for arch in options.archs], 5)

    parts = dict(warm=warm, training=training, correctness=correctness)
    return [part for name, part in parts.items() if name in options.parts]


def _side_by_side(functions: List[Callable[[], None]]) -> None:
    """Call all but the last in threads of their own; raises what the last raises."""
    threads = [Thread(target=function) for function in functions[:-1]]
    for thread in threads:
        thread.start()
    try:
        for function in functions[-1:]:
            function()
    finally:
        for thread in threads:
            thread.join()


def _cores() -> int:
    return os.cpu_count() or 2


def _jobs() -> int:
    """Trainings that fit side by side: about 12 GiB of GPU memory and two cores each."""
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(8, int(free / (12 << 30)), _cores() // 2))


def _timed_parts(options: Options, report: Report, clock: Stopwatch, engines: List[str]) -> None:
    nets = [net for net in options.nets if net in ('plain', 'textbook', 'compiled', *engines)]
    torch.backends.cudnn.benchmark = True
    if 'steps' in options.parts:
        last = 0. if list(options.parts) == ['steps'] else LAST_SHARE * options.budget
        until = clock.part(clock.left() - last)
        for setting in _settings(options):
            measure_steps(report, until, options.device, setting, nets,
                          .2 if options.tiny else SECONDS_A_SETTING)
    if 'profile' in options.parts:
        for precision in ('amp', ) if options.tiny else ('float32', 'amp'):
            setting = next(_settings(options))._replace(precision=precision)
            profile_steps(report, clock, options.device, setting, nets)
    if 'compiled' in options.parts:
        archs = options.archs[:1]
        merge_runs(report, clock, 'steps', [
            (f'compiled_{arch}_{batch}', ['--device', options.device, '--parts', 'steps',
                                          '--archs', arch, '--batches', batch,
                                          '--nets', 'plain', 'compiled'])
            for arch, batch in product(archs, options.batches[:1] if options.tiny
                                       else options.batches)], 1)


def _settings(options: Options) -> Iterator[Setting]:
    """S0 and S1 in all settings, then the others where goals are judged."""
    if options.tiny:
        yield from (Setting(arch, 2, precision, 'eager', 32)
                    for arch, precision in product(options.archs, ('float32', 'amp')))
        return
    for arch in options.archs:
        for batch, mode, precision in product(options.batches, ('graph', 'eager'),
                                              ('float32', 'amp')):
            if arch in ('s0', 's1') or (mode == 'graph') == (batch <= 32):
                yield Setting(arch, batch, precision, mode)
