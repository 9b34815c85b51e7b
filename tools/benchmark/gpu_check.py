"""Check in five minutes whether training on a GPU works, is correct and is fast.

tools/train.py trains a detector and a segmentor on drawn data, with and without --amp, validates
them folded and resumes them; each kind of block is compared with float64 on the CPU; then nets take
turns at training steps. Parts without their package (mmdet, Triton) are skipped with a reason.
Every finding goes to gpu_check.json and gpu_check.md in OUT at once. ``--device cpu`` runs the same
code at tiny sizes. Examples::

    python tools/benchmark/gpu_check.py --out gpu_check
    python tools/benchmark/gpu_check.py --out gpu_check --parts steps --archs s0 --budget-s 60
"""

import argparse
import sys
from pathlib import Path

from mobileone_mm.benchmark.training.gpu_check import PARTS, Options, run_check


def parse_args() -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--budget-s', type=float, default=300., dest='budget', metavar='SECONDS')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--archs', nargs='+', default=list(Options.archs), help='variants to time')
    parser.add_argument('--batches', nargs='+', type=int, default=list(Options.batches))
    parser.add_argument('--nets', nargs='+', default=list(Options.nets),
                        help='nets to time: plain, textbook, and names of branch engines')
    parser.add_argument('--shard', nargs=2, type=int, metavar=('FIRST', 'STEP'),
                        help='compare only block FIRST and every STEP-th after it')
    parser.add_argument('--resume', action='store_true', help='keep the results in OUT')
    return Options(**vars(parser.parse_args()))


def main() -> int:
    try:
        found = run_check(parse_args())
    except ValueError as error:
        sys.exit(f'gpu_check: {error}')
    verdicts = [row.get('verdict') for rows in found['sections'].values() for row in rows]
    return int(any(v not in (None, 'ok', 'met') and not v.startswith('skipped') for v in verdicts))


if __name__ == '__main__':
    sys.exit(main())
