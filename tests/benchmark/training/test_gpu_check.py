"""The GPU check, run on the CPU at tiny sizes, and with planted faults."""

import json
import subprocess
import sys

import pytest
import torch
from paths import ROOT

from mobileone_mm.backbones import MobileOneBlock
from mobileone_mm.benchmark.training.gpu_check import (
    Options,
    check,
    correctness,
    run_check,
    step_times,
    trainings,
)
from mobileone_mm.benchmark.training.gpu_check.report import DeviceLost, Report, Stopwatch
from mobileone_mm.benchmark.training.gpu_check.verdicts import judge_steps

TOOL = ROOT / 'tools' / 'benchmark' / 'gpu_check.py'


def run(tmp_path, *parts, **kwargs):
    options = dict(nets=('plain', 'analytic'), archs=('s0', ), budget=300.)
    return run_check(Options(tmp_path, 'cpu', parts=parts, **{**options, **kwargs}))['sections']


def test_blocks_and_steps_are_measured_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(step_times, 'LEAST_ROUNDS', 1)
    found = run(tmp_path, 'correctness', 'steps')
    rows = found['correctness']
    kinds = {row['kind'] for row in rows}
    assert len(kinds) == len(correctness.KINDS) and len(rows) == 5 * len(kinds)
    for row in rows:
        if not row['offset']:
            assert row['verdict'] == 'ok' and 0 < row['analytic_error'] < .02, row
    steps = {(row['precision'], row['net']): row for row in found['steps']}
    assert len(steps) == 4
    assert all(row['ms'] > 0 and row['saved_mb'] > 0 for row in steps.values())
    assert steps['amp', 'analytic']['time/plain'] > 0
    written = json.loads((tmp_path / 'gpu_check.json').read_text())
    assert written['sections'] == found and written['facts']['torch'] == torch.__version__
    table = (tmp_path / 'gpu_check.md').read_text()
    assert '## correctness' in table and '| s0 | 2 | amp | eager |' in table


@pytest.mark.parametrize('fault, verdict', [
    (lambda y: y * (1 + 1e-4), 'analytic is worse in output'),
    (lambda y: y * float('nan'), 'analytic is worse in output'),
    (lambda y: y.nothing, 'analytic: AttributeError'),
])
def test_a_wrong_block_is_found(tmp_path, monkeypatch, fault, verdict):
    forward = MobileOneBlock.forward
    monkeypatch.setattr(MobileOneBlock, 'forward', lambda self, x: (
        fault(forward(self, x)) if self.branch_engine == 'analytic' else forward(self, x)))
    monkeypatch.setattr(correctness, 'KINDS', dict(one=dict(kernel_size=1)))
    rows = run(tmp_path, 'correctness')['correctness']
    float32, = (row for row in rows if row['dtype'] == 'float32' and row['layout'] == 'NHWC')
    assert verdict in float32['verdict']


def test_a_detector_is_trained_and_resumed(tmp_path, monkeypatch):
    task = next(iter(trainings.TINY_TASKS))
    monkeypatch.setattr(trainings, 'TINY_TASKS', {task: trainings.TINY_TASKS[task]})
    pytest.importorskip('mmdet')
    row, = run(tmp_path, 'training', nets=('plain', ))['training']
    assert row['verdict'] == 'ok' and row['iterations'] == 9
    assert row['folding_difference'] < 1e-3 and row['memory_mb'] > 0


def test_a_missing_library_is_a_reason_to_skip(tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, 'find_spec', lambda name: None)
    rows = run(tmp_path, 'training')['training']
    assert {row['verdict'] for row in rows} == {
        'skipped: mmdet is not installed', 'skipped: mmseg is not installed'}


GOOD = {i: dict(loss=1., memory=5) for i in range(1, 7)}
AFTER = {i: dict(loss=1., memory=5) for i in range(7, 10)}
FOLDED = 'Folded and unfolded outputs differ by at most 1.0e-07 of\n' * 3


@pytest.mark.parametrize('losses, after, output, deployed, problem', [
    (GOOD, AFTER, FOLDED, True, 'ok'),
    ({**GOOD, 3: dict(loss=float('nan'))}, AFTER, FOLDED, True, 'a loss is not finite'),
    (GOOD, {1: dict(loss=1.)}, FOLDED, True, 'resumed at 1 after 6'),
    (GOOD, AFTER, FOLDED[:60], True, '1 validations of a folded model instead of 3'),
    (GOOD, AFTER, FOLDED, False, 'no folded weights were written'),
])
def test_what_is_wrong_with_a_training(tmp_path, losses, after, output, deployed, problem):
    if deployed:
        (tmp_path / 'epoch_3_deploy.pth').touch()
    assert trainings._findings(losses, after, output, tmp_path)['verdict'] == problem


def test_verdicts():
    setting = dict(arch='s0', batch=128, precision='amp', mode='eager', net='analytic')
    rows = [dict(setting, **{'time/plain': 1.31, 'time/textbook': .4}),
            dict(setting, net='textbook', **{'time/plain': 9.})]
    verdicts = {row['goal']: row['verdict'] for row in judge_steps(rows, 'analytic')}
    assert verdicts == {'time/plain <= 1.3': 'MISSED', 'time/textbook <= 0.4': 'met',
                        'peak/plain <= 0.6': 'not measured'}


def test_a_lost_device_loses_no_finding(tmp_path, monkeypatch):
    """The row of the fault is kept, and another process continues after it."""
    def lost(self):
        raise DeviceLost

    again = []
    monkeypatch.setattr(Report, 'check_device', lost)
    monkeypatch.setattr(check, 'run_tool', lambda *args: again.append(args))
    found = run(tmp_path, 'correctness')
    assert len(found['correctness']) == 1 and '--resume' in again[0]
    monkeypatch.undo()
    monkeypatch.setattr(correctness, 'KINDS', dict(list(correctness.KINDS.items())[:2]))
    assert len(run(tmp_path, 'correctness', resume=True)['correctness']) == 10


def test_time_runs_out(tmp_path):
    found = run(tmp_path, 'correctness', 'steps', budget=0.)
    assert found['correctness'][0]['verdict'] == 'skipped: out of time'
    assert found['steps'][0]['note'] == 'skipped: out of time'


def test_rows_of_other_processes_are_taken_over(tmp_path):
    report = Report(tmp_path, {})
    check.merge_runs(report, Stopwatch(120), 'correctness', [
        ('good', ['--device', 'cpu', '--parts', 'correctness', '--shard', 0, 20]),
        ('bad', ['--device', 'cpu', '--parts', 'nonsense'])], 2)
    assert len(report.sections['correctness']) == 3
    assert 'bad' in report.sections['notes'][0]['note']
    assert 'invalid choice' in report.sections['notes'][0]['note']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['gpu_check.json', 'gpu_check.md']


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_the_tool_says_what_to_do(tmp_path):
    done = subprocess.run([sys.executable, str(TOOL), '--out', str(tmp_path)], text=True,
                          stderr=subprocess.PIPE)
    assert done.returncode == 1 and '--device cpu' in done.stderr
