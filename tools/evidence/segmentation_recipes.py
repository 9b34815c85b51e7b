"""Run one epoch of the published segmentation recipes on a few images, on a CPU.

    python tools/evidence/segmentation_recipes.py voc12aug --data-root VOCdevkit/VOC2012
    python tools/evidence/segmentation_recipes.py ade20k     # draws its data

In deeplabv3_mobileone_<arch>_<recipe>.py, only the data root, the schedule, the batch size and the
ImageNet weights change; random weights of the same layout replace the latter. Afterwards the two
files from ReparameterizeHook are tested, which must give the mIoU of the validation to 4 decimals.
After so few iterations, the mIoU itself means nothing.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from mobileone_mm import MobileOne
from mobileone_mm.commands.train_test import test, train
from mobileone_mm.datasets.drawn.shapes import make_shapes

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/segmentation'


def voc_root(source: Path, root: Path, num_images: int) -> Path:
    """Links to a few images of Pascal VOC without SBD; half of them act as SBD's."""
    lists = root / 'ImageSets/Segmentation'
    lists.mkdir(parents=True, exist_ok=True)
    for name, folder in (('JPEGImages', 'JPEGImages'), ('SegmentationClass', 'SegmentationClass'),
                         ('SegmentationClassAug', 'SegmentationClass')):
        if not (root / name).exists():
            (root / name).symlink_to((source / folder).resolve(strict=True))
    train, val = ((source / f'ImageSets/Segmentation/{part}.txt').read_text().split()[:num_images]
                  for part in ('train', 'val'))
    half = len(train) // 2
    for part, members in (('train', train[:half]), ('aug', train[half:]), ('val', val[:half])):
        (lists / f'{part}.txt').write_text(''.join(f'{name}\n' for name in members))
    return root


def last_miou(work_dir: Path) -> float:
    """The mIoU in the log of the last run in a work directory, in percent, with 2 decimals."""
    lines = [line for path in max(work_dir.glob('2*')).rglob('*.json')
             for line in path.read_text().splitlines() if '"mIoU"' in line]
    return json.loads(lines[-1])['mIoU']


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recipe', choices=['voc12aug', 'ade20k'])
    parser.add_argument('--data-root', type=Path, help='for voc12aug: a folder VOC2012')
    parser.add_argument('--arch', default='s0')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--num-images', type=int, default=8, help='for training; half to validate')
    parser.add_argument('--work-dir', type=Path)
    args = parser.parse_args()
    work_dir = args.work_dir or Path('work_dirs', f'recipe_{args.recipe}')
    work_dir.mkdir(parents=True, exist_ok=True)
    if args.recipe == 'ade20k':
        data = make_shapes(work_dir / 'data', 'ade', args.num_images, args.num_images // 2)
    elif args.data_root is None:
        parser.error('voc12aug needs --data-root')
    else:
        data = voc_root(args.data_root, work_dir / 'data', args.num_images)

    weights = work_dir / 'imagenet.pth'
    torch.save(MobileOne(args.arch).state_dict(), weights)
    train([str(CONFIGS / f'deeplabv3_mobileone_{args.arch}_{args.recipe}.py'),
           '--work-dir', str(work_dir), '--cfg-options', f'data_root={data}',
           'train_cfg.max_epochs=1', f'train_dataloader.batch_size={args.batch_size}',
           'default_hooks.logger.interval=1', f'model.backbone.init_cfg.checkpoint={weights}'])
    deployed = work_dir / 'epoch_1_deploy.py'
    test([str(deployed), str(deployed.with_suffix('.pth')), '--work-dir', str(work_dir / 'test')])
    validated, tested = last_miou(work_dir), last_miou(work_dir / 'test')
    print(f'{args.arch} {args.recipe}: mIoU {validated} in validation, {tested} deployed')
    if abs(validated - tested) > 0.01:  # in percent
        sys.exit('error: the deployed files give another mIoU')


if __name__ == '__main__':
    main()
