"""Check, unpack and convert COCO, Pascal VOC with SBD, or ADE20K. Nothing is downloaded.

    python tools/prepare_data.py voc12aug --check-only

says what is there, what to download and where to put it. Without --check-only it unpacks and
converts what is there. After an interruption, the same command continues. Exit status: 0 if the
data set is ready, 1 if it is not, 130 if interrupted.
"""

import argparse
import sys

from command_line import run

DATASETS = ('coco', 'voc12coco', 'voc12aug', 'ade20k')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dataset', choices=DATASETS)
    parser.add_argument('--data-root', default='data', help='defaults to %(default)s')
    parser.add_argument('--check-only', action='store_true', help='only report')
    return parser


def check(args: argparse.Namespace) -> int:
    from mobileone_mm.datasets.prepare import prepare
    try:
        ready = prepare(args.dataset, args.data_root, args.check_only)
    except KeyboardInterrupt:
        print('interrupted: run the same command again to continue', file=sys.stderr)
        return 130
    print(f'{args.dataset}: {"ready" if ready else "not ready"}')
    return 0 if ready else 1


if __name__ == '__main__':
    sys.exit(run(make_parser(), check, ModuleNotFoundError, ValueError))
