"""Draw the predictions of a checkpoint or an exported model.

    python tools/predict.py MODEL FOLDER --out DIR

A picture that cannot be read is passed over; it is told at the end, and the exit status is 1.
"""

import argparse
import sys

from mobileone_mm.commands.predict import Predictor, predict
from mobileone_mm.commands.predict_files import KINDS
from mobileone_mm.export import ExportError
from mobileone_mm.utils.checkpoint_files import CheckpointError
from mobileone_mm.utils.libraries import PreflightError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a checkpoint, or a file that tools/deploy.py exported')
    parser.add_argument('images', help='a picture, a directory, a video, or the index of a camera')
    parser.add_argument('--out', required=True, help='directory for the results')
    parser.add_argument('--config', help='by default the .py beside the model, which folding and '
                                         'exporting write')
    parser.add_argument('--score-thr', type=float, default=.3, help='of drawn boxes')
    parser.add_argument('--device', default='cpu', help='of a checkpoint, for example cuda')
    parser.add_argument('--limit', type=int, help='pictures or frames at most')
    parser.add_argument('--save', nargs='+', choices=KINDS, default=[],
                        help='write besides: boxes as one COCO file, as YOLO text files, or as '
                             'crops; or label masks of segmentation')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        predictor = Predictor(args.model, args.config, args.device, args.score_thr)
        speed = predict(predictor, args.images, args.out, args.limit, args.save)
        print(speed)
        speed.check()
    except (CheckpointError, ExportError, PreflightError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
