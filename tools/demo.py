"""Draw a small data set, train MobileOne-S0 on it from scratch, fold it, and draw the result.

After an interruption, the same command continues from the last checkpoint in the work directory.
"""
import argparse
import sys
import time
from pathlib import Path

from command_line import run

TASKS = ('detection', 'segmentation')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', default='detection', choices=(*TASKS, 'both'))
    parser.add_argument('--work-dir', help='default: work_dirs/demo_<task>')
    return parser


def demo(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.demo import draw_both, run_demo
    from mobileone_mm.utils.busy_cores import leave_busy_cores
    print(f'threads, without cores that other programs use: {leave_busy_cores()}')
    root, reports = Path(__file__).resolve().parents[1], {}
    tasks = TASKS if args.task == 'both' else (args.task, )
    work_dir = Path(args.work_dir or f'work_dirs/demo_{args.task}')
    for task in tasks:
        start = time.monotonic()
        report = reports[task] = run_demo(
            task, root, work_dir / task if args.task == 'both' else work_dir)
        print(f'\n{task}, {(time.monotonic() - start) / 60:.1f} min; on the validation part:')
        for model, metrics in (('trained', report.trained), ('folded', report.folded)):
            print(f'  {model:7} model  ' + '  '.join(f'{k} {v:.4f}' for k, v in metrics.items()))
        print(f'  before → after folding: {report.caption()}')
        print(f'  annotations and predictions: {report.picture}\n')
    if args.task == 'both':
        picture = work_dir / 'both.png'
        draw_both(reports['detection'], reports['segmentation'], picture)
        print(f'both tasks in one picture: {picture}')
    problems = [problem for report in reports.values() for problem in report.problems()]
    if problems:
        sys.exit('demo: ' + '; '.join(problems))


if __name__ == '__main__':
    sys.exit(run(make_parser(), demo))
