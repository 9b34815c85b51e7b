"""Write a config for your own images and masks; then train it like any other.

    python tools/custom_seg.py --images DIR --masks DIR --val-share 0.2 --out configs/my_seg.py
    python tools/train.py configs/my_seg.py
    python tools/test.py work_dirs/my_seg/epoch_50_deploy.py work_dirs/my_seg/epoch_50_deploy.pth

It looks at every mask and says what the values mean and how many pixels each class has. Masks
whose values are not labels are converted to my_seg_data, beside the config; yours are only read.
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
    add('--val-images', help='folder of the images to validate and test on')
    add('--val-masks', help='folder of their masks')
    add('--val-share', type=float, help='share of --images to validate on instead; .2 by default')
    add('--seed', type=int, default=0, help='of the choice of this share')
    add('--classes', help='names.txt with a name a line, in the order of the labels; or a JSON '
                          'object from names to colors or gray values')
    add('--ignore', nargs='+', default=[], metavar='VALUE',
        help="gray values or colors ('#rrggbb') of pixels to leave out; 255 is one anyway")
    add('--without-mask', choices=['error', 'skip', 'background'], default='error',
        help='what to do with images that have no mask')
    add('--out', required=True, help='the config to write')
    add('--base', default=BASES[1], help=', '.join(BASES))
    add('--epochs', type=int, default=50)
    add('--batch-size', type=int, default=8, help='images on each GPU')
    add('--input-size', type=int,
        help='side of the crops in pixels; by default that of the images, 512 at most')
    add('--workers', type=int, default=2, help='processes that load images')
    add('--class-weights', action='store_true', help='let rare classes count for more')
    add('--slide', action='store_true',
        help='for large images: test at their own size, window by window')
    add('--from-scratch', action='store_true',
        help='random weights instead of those for ImageNet, which are downloaded')
    return parser


def custom_seg(args: argparse.Namespace) -> None:
    """Check the data, say what is there, write the config."""
    from mobileone_mm.datasets.custom_seg.classes import parse_value, read_classes
    from mobileone_mm.datasets.custom_seg.config import SegOptions, check_options, write_custom_seg
    from mobileone_mm.datasets.custom_seg.prepare import Folders, prepare
    from mobileone_mm.utils.libraries import PreflightError
    if (args.val_images is None) != (args.val_masks is None):
        raise PreflightError('--val-images and --val-masks belong together')
    if args.val_images and args.val_share is not None:
        raise PreflightError('give --val-images and --val-masks, or --val-share, not both')
    options = SegOptions(args.base, args.epochs, args.batch_size, args.input_size, args.workers,
                         args.from_scratch, args.class_weights, args.slide)
    check_options(args.out, options)
    try:
        ignored = [parse_value(value) for value in args.ignore]
    except ValueError as error:
        raise PreflightError(f'--ignore: {error}') from error
    val = Folders(Path(args.val_images).absolute(), Path(args.val_masks).absolute()
                  ) if args.val_images else None
    prepared = prepare(
        Folders(Path(args.images).absolute(), Path(args.masks).absolute()), val,
        .2 if args.val_share is None else args.val_share, args.seed,
        read_classes(args.classes) if args.classes else None, ignored, args.without_mask)
    notes = write_custom_seg(prepared, args.out, options)
    names = prepared.reading.classes.names
    print(prepared.train.describe(names), prepared.val.describe(names),
          *(f'note: {line}' for line in notes), f'wrote {args.out}', sep='\n')


if __name__ == '__main__':
    sys.exit(run(_parser(), custom_seg))
