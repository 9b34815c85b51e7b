"""Write a config for your own images and masks, to train like any other.

    python tools/custom_seg.py --images DIR --masks DIR --val-share 0.2 --out configs/my_seg.py
    python tools/train.py configs/my_seg.py
    python tools/test.py work_dirs/my_seg/epoch_50_deploy.py work_dirs/my_seg/epoch_50_deploy.pth

This reads every mask and prints what the values mean and how many pixels each class has. Masks
without labels are converted to my_seg_data, next to the config. Your files are only read.
"""

import argparse
import sys
from pathlib import Path

from command_line import run

BASES = tuple(f'deeplabv3_mobileone_s{i}_voc12aug' for i in range(5))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--images', required=True, help='folder of the images')
    add('--masks', required=True, help='folder of the masks, named like the images')
    add('--val-images', help='folder of the images for validation and test')
    add('--val-masks', help='folder of their masks')
    add('--val-share', type=float, help='or the share of --images for validation (default: 0.2)')
    add('--seed', type=int, default=0, help='seed for the choice of this share')
    add('--classes', help='names.txt with one name per line, in the order of the labels; or '
                          'a JSON object from names to colors or gray values')
    add('--ignore', nargs='+', default=[], metavar='VALUE',
        help="gray values or colors ('#rrggbb') of pixels to ignore, besides 255")
    add('--without-mask', choices=['error', 'skip', 'background'], default='error',
        help='what to do with images that have no mask')
    add('--out', required=True, help='the config to write')
    add('--base', default=BASES[1], help=', '.join(BASES))
    add('--epochs', type=int, default=50)
    add('--batch-size', type=int, default=8, help='images per GPU')
    add('--input-size', type=int,
        help='side of the crops in pixels (default: that of the images, at most 512)')
    add('--workers', type=int, default=2, help='processes that load images')
    add('--class-weights', action='store_true', help='make rare classes count for more')
    add('--slide', action='store_true',
        help='test large images at their own size, window by window')
    add('--from-scratch', action='store_true',
        help='random weights instead of ImageNet weights, which are downloaded')
    return parser


def custom_seg(args: argparse.Namespace) -> None:
    """Check the data, print what was found, and write the config."""
    from mobileone_mm.datasets.custom_seg.classes import parse_value, read_classes
    from mobileone_mm.datasets.custom_seg.config import SegOptions, check_options, write_custom_seg
    from mobileone_mm.datasets.custom_seg.prepare import Folders, prepare
    from mobileone_mm.utils.libraries import PreflightError
    if (args.val_images is None) != (args.val_masks is None):
        raise PreflightError('--val-images and --val-masks need each other')
    if args.val_images and args.val_share is not None:
        raise PreflightError('give --val-images and --val-masks, or --val-share, not both')
    options = SegOptions(
        base=args.base, epochs=args.epochs, batch_size=args.batch_size, input_size=args.input_size,
        workers=args.workers, from_scratch=args.from_scratch, class_weights=args.class_weights,
        slide=args.slide)
    check_options(args.out, options)
    try:
        ignored = [parse_value(value) for value in args.ignore]
    except ValueError as error:
        raise PreflightError(f'--ignore: {error}') from error
    val = Folders(Path(args.val_images).absolute(), Path(args.val_masks).absolute()
                  ) if args.val_images else None
    prepared = prepare(
        Folders(Path(args.images).absolute(), Path(args.masks).absolute()), val,
        .2 if args.val_share is None else args.val_share, seed=args.seed,
        classes=read_classes(args.classes) if args.classes else None, ignored=ignored,
        without_mask=args.without_mask)
    notes = write_custom_seg(prepared, args.out, options)
    names = prepared.reading.classes.names
    print(prepared.train.describe(names), prepared.val.describe(names),
          *(f'note: {line}' for line in notes), f'wrote {args.out}', sep='\n')


if __name__ == '__main__':
    sys.exit(run(_parser(), custom_seg))
