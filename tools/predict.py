"""Draw the predictions of a checkpoint or an exported model.

    python tools/predict.py MODEL FOLDER --out DIR

Pictures that cannot be read are skipped and listed at the end, and the exit status is 1.
"""

import argparse
import sys

from command_line import run

KINDS = ('coco', 'yolo', 'crops', 'masks')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a checkpoint, or a file exported by tools/deploy.py')
    parser.add_argument('images', help='a picture, a directory, a video, or the index of a camera')
    parser.add_argument('--out', required=True, help='directory for the results')
    parser.add_argument('--config', help='default: the .py beside the model, which folding and '
                                         'exporting write')
    parser.add_argument('--score-thr', type=float, default=.3, help='minimum score of drawn boxes')
    parser.add_argument('--device', default='cpu', help='device for a checkpoint, for example cuda')
    parser.add_argument('--limit', type=int, help='maximum number of pictures or frames')
    parser.add_argument('--save', nargs='+', choices=KINDS, default=[],
                        help='also write boxes as a COCO file, YOLO text files, or '
                             'crops; or masks of segmentation')
    return parser


def draw(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.predict import Predictor, predict
    predictor = Predictor(args.model, args.config, args.device, args.score_thr)
    speed = predict(predictor, args.images, args.out, args.limit, args.save)
    print(speed)
    speed.check()


if __name__ == '__main__':
    sys.exit(run(make_parser(), draw))
