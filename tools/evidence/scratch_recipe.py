"""What each part of `custom_coco --from-scratch` is worth: the recipe, and the recipe without it.

    python tools/evidence/scratch_recipe.py --train train.json --val val.json --images DIR \\
        --epochs 14 --seeds 0 1 2 --out DIR

Prints mAP_50 of the folded model for each seed, and the mean CPU time of a run. Without --train it
draws 300 and 100 pictures of shapes. Runs that are done are not repeated.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict

from mmengine.config import Config

from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
from mobileone_mm.datasets.drawn.shapes import make_shapes

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
MEAN = [123.675, 116.28, 103.53]


def _pipeline(cfg: Config, index: int, *steps: dict) -> None:
    cfg.train_dataloader.dataset.pipeline[index:index] = list(steps)


def _hook(cfg: Config, **options) -> None:
    cfg.custom_hooks[0] = dict(type='EMAHook', update_buffers=True, priority=49, **options)


def _slow_norms(cfg: Config) -> None:
    cfg.model.neck.norm_cfg.momentum = cfg.model.bbox_head.norm_cfg.momentum = .03


def _iterations(cfg: Config) -> int:
    return 10 * cfg.param_scheduler[0].end  # the warm-up is a tenth


PARTS: Dict[str, Callable[[Config], object]] = {
    'the recipe': lambda cfg: None,
    'with Expand': lambda cfg: _pipeline(
        cfg, 3, dict(type='Expand', mean=MEAN, to_rgb=True, ratio_range=(1, 4))),
    'with crops from IoU 0.1': lambda cfg: cfg.train_dataloader.dataset.pipeline[3].update(
        min_ious=(.1, .3, .5, .7, .9), min_crop_size=.3),
    'with changes of color': lambda cfg: _pipeline(cfg, 5, dict(
        type='PhotoMetricDistortion', brightness_delta=32, contrast_range=(.5, 1.5),
        saturation_range=(.5, 1.5), hue_delta=18)),
    'head initialized at 0.001': lambda cfg: cfg.model.bbox_head.init_cfg.update(std=.001),
    'norms of momentum 0.03': _slow_norms,
    'AdamW at 0.002': lambda cfg: cfg.optim_wrapper.optimizer.update(lr=2e-3),
    'an average over a tenth from the start': lambda cfg: _hook(
        cfg, ema_type='ExponentialMovingAverage', momentum=10 / _iterations(cfg)),
    'no average': lambda cfg: cfg.custom_hooks.pop(0),
}


def run(base: Path, name: str, seed: int, out: Path) -> dict:
    """Train and return mAP_50 and CPU seconds."""
    folder = out / name.replace(' ', '_') / str(seed)
    result = folder / 'result.json'
    if result.is_file():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(base)
    PARTS[name](cfg)
    cfg.randomness = dict(seed=seed)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    cfg.dump(folder / 'config.py')
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(folder / 'output.txt', 'w') as output:
        subprocess.run([sys.executable, str(TRAIN), str(folder / 'config.py'), '--work-dir',
                        str(folder)], check=True, stdout=output, stderr=subprocess.STDOUT,
                       env=dict(os.environ, OMP_NUM_THREADS='1'))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = [json.loads(line)['coco/bbox_mAP_50'] for path in folder.glob('*/vis_data/*.json')
              for line in path.read_text().splitlines() if 'bbox_mAP_50' in line]
    found = dict(map50=scores[-1], seconds=after.ru_utime + after.ru_stime - before.ru_utime
                 - before.ru_stime)
    result.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('train', 'val', 'images', 'val-images'):
        parser.add_argument(f'--{name}', type=Path)
    parser.add_argument('--epochs', type=int, default=14)
    parser.add_argument('--input-size', type=int)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--parts', nargs='+', default=list(PARTS), choices=list(PARTS))
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    if args.train is None:
        coco = make_shapes(args.out / 'shapes', 'coco', num_train=300, num_val=100)
        args.train, args.val = (coco / f'annotations/instances_{part}2017.json'
                                for part in ('train', 'val'))
        args.images, args.val_images = coco / 'train2017', coco / 'val2017'
    train = read_split(args.train, args.images)
    val = read_split(args.val, args.val_images or args.images, like=train)
    base = args.out / 'base.py'
    write_custom_config(train, val, base, 'ssdlite_mobileone_s0_coco',
                        epochs=args.epochs, from_scratch=True, input_size=args.input_size,
                        workers=0)
    print(f'| | mAP_50 with the seeds {args.seeds} | CPU seconds |\n|--|--|--|')
    for name in args.parts:
        found = [run(base, name, seed, args.out) for seed in args.seeds]
        seconds = sum(one['seconds'] for one in found) / len(found)
        print(f'| {name} | {", ".join(format(one["map50"], ".3f") for one in found)} | '
              f'{seconds:.0f} |', flush=True)


if __name__ == '__main__':
    main()
