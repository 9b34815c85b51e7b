"""Write a config for a data set of one's own in COCO's format; then train it as any other.

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
    parser.add_argument('--train', required=True, help='COCO annotations to train on')
    parser.add_argument('--val', required=True, help='COCO annotations to validate and test on')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--val-images', help="folder of --val's images, if it is another one")
    parser.add_argument('--out', required=True, help='the config to write')
    parser.add_argument('--base', default='ssdlite_mobileone_s1_coco', help=', '.join(BASES))
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--batch-size', type=int, default=24, help='images on each GPU')
    parser.add_argument('--from-scratch', action='store_true',
                        help='random weights in place of those for ImageNet, which are downloaded')
    return parser


def custom_coco(args: argparse.Namespace) -> None:
    """Check the data, say what is there, write the config."""
    from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
    train = read_split(args.train, args.images)
    val = read_split(args.val, args.val_images or args.images)
    odd = write_custom_config(train, val, args.out, args.base, args.epochs, args.batch_size,
                              args.from_scratch)
    print(train, val, *(f'note: {line}' for line in odd), f'wrote {args.out}', sep='\n')


if __name__ == '__main__':
    sys.exit(run(make_parser(), custom_coco))
