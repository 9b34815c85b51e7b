"""Fold a trained model, export it to a runtime and prove that it answers the same.

    python tools/deploy.py CONFIG CHECKPOINT --backend onnxruntime --image IMG --out DIR
"""

import argparse
import sys

from mmengine.config import DictAction

from mobileone_mm.export import FORMATS, ExportError
from mobileone_mm.export.pipeline import export_model
from mobileone_mm.utils.checkpoint_files import CheckpointError
from mobileone_mm.utils.libraries import PreflightError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config of the checkpoint')
    parser.add_argument('checkpoint', help='trained or folded weights')
    parser.add_argument('--backend', required=True, choices=list(FORMATS))
    parser.add_argument('--image', required=True, help='a picture: example input and comparison')
    parser.add_argument('--out', required=True, help='directory for the exported model')
    parser.add_argument('--half', action='store_true', help='float16')
    parser.add_argument('--dynamic', nargs='+', default=[], metavar='AXIS',
                        help='keep axes open: batch, size, or both')
    parser.add_argument('--batch-size', type=int, default=1, help='of the example input')
    parser.add_argument('--verify', metavar='DIR',
                        help='compare on all pictures of a directory too')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        print(export_model(**vars(args)))
    except (CheckpointError, ExportError, PreflightError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
