"""Measure what each part of `custom_coco --from-scratch` contributes, by leaving it out.

    python tools/evidence/scratch_recipe.py --train train.json --val val.json --images DIR \\
        --epochs 14 --seeds 0 1 2 --out DIR

OUT/results.md holds the folded model's mAP_50: means, 95 % intervals and paired differences over
finished seeds. Without --train it draws 300 and 100 pictures of shapes. Finished runs are not
repeated.
"""

import argparse
import json
from pathlib import Path
from typing import Callable, Dict, List

import trainings
from mmengine.config import Config

from mobileone_mm.commands.ablation_report import summarize
from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.utils.fileio import atomic_path

METRIC = 'coco/bbox_mAP_50'
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
    """Train, unless there is a result, and return mAP_50 and the CPU seconds of the iterations."""
    folder = out / name.replace(' ', '_') / str(seed)
    result = folder / 'result.json'
    if result.is_file():
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(base)
    PARTS[name](cfg)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    cfg.dump(folder / 'config.py')
    done = trainings.run(folder / 'config.py', folder, f'randomness.seed={seed}')
    found = dict(variant=name, seed=seed, metric=METRIC, value=done.metrics[METRIC],
                 seconds=sum(done.cpu_seconds))
    with atomic_path(result) as path:
        path.write_text(json.dumps(found))
    print(found, flush=True)
    return found


def table(results: List[dict], seeds: List[int]) -> str:
    """Markdown: means, 95 % intervals and differences from the whole recipe, paired by seed."""
    lines = [f'| | mAP_50, seeds {seeds}, 95 % | difference | CPU seconds of training |',
             '|--|--|--|--|']
    for row in summarize(results):
        seconds = [found['seconds'] for found in results if found['variant'] == row.name]
        lines.append(f'| {row.name} | {row.interval} | {row.difference or ""} | '
                     f'{sum(seconds) / len(seconds):.0f} |')
    return '\n'.join(lines) + '\n'


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
    write_custom_config(train, val, base, 'ssdlite_mobileone_s0_coco', epochs=args.epochs,
                        from_scratch=True, input_size=args.input_size, workers=0)
    results: List[dict] = []
    for number, seed in enumerate(args.seeds, 1):
        results += [run(base, name, seed, args.out) for name in args.parts]
        with atomic_path(args.out / 'results.md') as path:
            path.write_text(table(results, args.seeds[:number]))
    print((args.out / 'results.md').read_text())


if __name__ == '__main__':
    main()
