"""Write a config for your own data in COCO's format, to train like any other.

    python tools/custom_coco.py --train train.json --val val.json --images DIR --out configs/my.py
    python tools/train.py configs/my.py
    python tools/test.py work_dirs/my/epoch_50_deploy.py work_dirs/my/epoch_50_deploy.pth  # folded
"""

import argparse
import sys

from command_line import run

BASES = tuple(f'ssdlite_mobileone_s{i}_coco' for i in range(5))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--train', required=True, help='COCO annotations for training')
    parser.add_argument('--val', required=True, help='COCO annotations for validation and test')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--val-images', help="folder of --val's images, if different")
    parser.add_argument('--out', required=True, help='the config to write')
    parser.add_argument('--base', default='ssdlite_mobileone_s1_coco', help=', '.join(BASES))
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--batch-size', type=int,
                        help='images per GPU (default: 24, from scratch 8)')
    parser.add_argument('--input-size', type=int, metavar='PIXELS',
                        help='width and height of the input, a multiple of 32, which maps and '
                             'anchors follow (default: 320, from scratch 192)')
    parser.add_argument('--workers', type=int, default=2,
                        help='processes that load images (default: 2)')
    parser.add_argument('--negatives', choices=['drop', 'keep'], default='drop',
                        help='whether to train on images without boxes')
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--from-scratch', action='store_true',
                       help='random weights instead of ImageNet weights, which are downloaded')
    start.add_argument('--checkpoint', metavar='FILE',
                       help='weights for the backbone instead of ImageNet weights')
    return parser


def custom_coco(args: argparse.Namespace) -> None:
    """Check the data, print what was found, and write the config."""
    from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
    train = read_split(args.train, args.images, keep_negatives=args.negatives == 'keep')
    val = read_split(args.val, args.val_images or args.images, like=train)
    notes = write_custom_config(
        train, val, args.out, args.base, epochs=args.epochs, batch_size=args.batch_size,
        from_scratch=args.from_scratch, input_size=args.input_size, workers=args.workers,
        checkpoint=args.checkpoint)
    print(train, val, *(f'note: {line}' for line in notes), f'wrote {args.out}', sep='\n')


if __name__ == '__main__':
    sys.exit(run(make_parser(), custom_coco))
