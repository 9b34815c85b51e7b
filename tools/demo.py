"""Draw a small data set, train MobileOne-S0 on it from scratch, fold it, and picture the result.

Run again after an interruption, it goes on from the last checkpoint in the work directory.
"""
import argparse
import sys
import time
from pathlib import Path

from command_line import run

TASKS = ('detection', 'segmentation')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', default='detection', choices=TASKS)
    parser.add_argument('--work-dir', help='default: work_dirs/demo_<task>')
    return parser


def demo(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.demo import run_demo
    start = time.monotonic()
    report = run_demo(args.task, Path(__file__).resolve().parents[1],
                      args.work_dir or f'work_dirs/demo_{args.task}')
    print(f'\n{(time.monotonic() - start) / 60:.1f} min; on the validation part:')
    for model, metrics in (('trained', report.trained), ('folded', report.folded)):
        print(f'  {model:7} model  ' + '  '.join(f'{k} {v:.4f}' for k, v in metrics.items()))
    print(f'ground truth and predictions: {report.picture}')
    problems = report.problems()
    if problems:
        sys.exit('demo: ' + '; '.join(problems))


if __name__ == '__main__':
    sys.exit(run(make_parser(), demo))
