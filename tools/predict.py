"""Draw the predictions of a checkpoint or an exported model.

    python tools/predict.py MODEL FOLDER --out DIR
"""

import argparse
import sys

from command_line import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='a checkpoint, or a file that tools/deploy.py exported')
    parser.add_argument('images', help='a picture, a directory, a video, or the index of a camera')
    parser.add_argument('--out', required=True, help='directory for the results')
    parser.add_argument('--config', help='by default the .py beside the model, which folding and '
                                         'exporting write')
    parser.add_argument('--score-thr', type=float, default=.3, help='of drawn boxes')
    parser.add_argument('--device', default='cpu', help='of a checkpoint, for example cuda')
    parser.add_argument('--limit', type=int, help='pictures or frames at most')
    return parser


def draw(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.predict import Predictor, predict
    predictor = Predictor(args.model, args.config, args.device, args.score_thr)
    print(predict(predictor, args.images, args.out, args.limit))


if __name__ == '__main__':
    sys.exit(run(make_parser(), draw))
