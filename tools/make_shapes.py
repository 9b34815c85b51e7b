"""Draw the data set of shapes, for example with ``--layout all``."""
import argparse
import sys

from command_line import run

LAYOUTS = ('coco', 'voc', 'ade', 'imagenet')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--out', default='data/shapes', help='output directory')
    parser.add_argument('--layout', default='coco', choices=[*LAYOUTS, 'all'])
    parser.add_argument('--num-train', type=int, default=800, help='number of training images')
    parser.add_argument('--num-val', type=int, default=80, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0)
    return parser


def draw(args: argparse.Namespace) -> None:
    from mobileone_mm.datasets.drawn.shapes import make_shapes
    for layout in LAYOUTS if args.layout == 'all' else [args.layout]:
        root = make_shapes(args.out, layout, args.num_train, args.num_val, args.seed)
        print(f'{layout}: {root}')


if __name__ == '__main__':
    sys.exit(run(make_parser(), draw, ValueError))
