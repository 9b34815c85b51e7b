"""Run work in other processes, which can be killed and compile kernels side by side."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from ....utils.configs import config_directory
from .report import JSON, Report, Stopwatch, attempt

__all__ = ['ROOT', 'environment', 'merge_runs', 'run_tool']

ROOT = config_directory('detection').parents[1]
"""The folder of configs/ and tools/: the repository, or .mim in a wheel."""


def environment(device: str) -> Dict[str, str]:
    """Environment of a process beside others: it finds this package and has one thread.

    Args:
        device: ``'cpu'`` hides all GPUs.
    """
    package = Path(__file__).resolve().parents[3]
    paths = [str(package.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    result = dict(os.environ, PYTHONPATH=os.pathsep.join(paths), PYTHONUNBUFFERED='1',
                  OMP_NUM_THREADS='1')
    if device == 'cpu':
        result['CUDA_VISIBLE_DEVICES'] = ''
    return result


def run_tool(out: Path, clock: Stopwatch, *args: Any) -> None:
    """Run tools/benchmark/gpu_check.py with these options in another process.

    Raises:
        subprocess.SubprocessError: It failed, or no time is left.
    """
    command = [sys.executable, str(ROOT / 'tools/benchmark/gpu_check.py'), '--out', str(out),
               '--budget-s', f'{clock.left():.0f}', *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors='replace', env=environment('cuda'),
                          timeout=max(1., clock.left()))
    if done.returncode not in (0, 1):  # 1 means a bad verdict
        raise subprocess.SubprocessError(done.stdout.strip()[-600:])


def merge_runs(report: Report, clock: Stopwatch, section: str,
               runs: Sequence[Tuple[str, Sequence[Any]]], jobs: int) -> None:
    """Run the check several times side by side, and collect the rows of a section.

    Args:
        report: Where rows go. A run that fails gets a row in 'notes', and its rows are kept.
        clock: Runs end when it has run out.
        section: Section of the rows.
        runs: Name and options of each run.
        jobs: How many run at a time.
    """
    def run(name: str, args: Sequence[Any]) -> None:
        folder = report.folder / f'part_{name}'
        result = attempt(run_tool, folder, clock, *args)
        rows: List[dict] = []
        if (folder / JSON).exists():
            rows = json.loads((folder / JSON).read_text())['sections'].get(section, [])
        for row in rows:
            if not report.has(section, **row):
                report.add(section, **row)
        if result is not None:
            report.add('notes', note=f'{name}: {result["failed"]}')
        shutil.rmtree(folder, ignore_errors=True)

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        list(pool.map(lambda named: run(*named), runs))
