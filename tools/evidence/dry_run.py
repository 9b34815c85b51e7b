"""Run every published recipe for some iterations, and measure its cost.

    python tools/evidence/dry_run.py --out OUT                                    # on a GPU
    python tools/evidence/dry_run.py --out OUT --batch-size 2 --iterations 2      # on a CPU

Each recipe trains for one epoch like in tools/train.py, from random weights and at full input size,
on drawn data in the official layout, and validates the folded model. Only the data root, the number
of epochs and images, the score threshold of detectors and, on request, the batch size change.
OUT/dry_run.json keeps every result, so the same command continues. OUT/dry_run.md is a table of
time and memory.

One column estimates the hours of the full schedule on one GPU, without data loading: images times
epochs at the measured speed. On a CPU, the CPU time is compared with that of S0's backbone at
224 px, whose time on an H200 is in docs/gpu.md. Its time with plain convolutions gives the lower
bound, its time with branches one by one the upper bound.
"""

import argparse
import json
import math
import statistics
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any, Dict, List

import torch
import trainings
from mmengine.config import Config

from mobileone_mm import MobileOne
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.utils.fileio import atomic_path

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LAYOUTS = dict(coco='coco', voc12aug='voc', voc12coco='voc', ade20k='ade')
# Training images of the published data sets; as in mmdet, without COCO's images without objects.
# COCO's images in voc12coco are not included: cvnets did not publish its list.
IMAGES = dict(coco=117266, voc12aug=10582, ade20k=20210)
# Seconds per image of a forward and backward pass of S0 in mixed precision, docs/gpu.md
H200 = (.0195 / 128, .0860 / 128)


def recipes(pattern: str) -> List[Path]:
    """The configs of published data sets."""
    found = [path for task in ('detection', 'segmentation')
             for path in sorted((CONFIGS / task).glob(f'{pattern}.py'))]
    return [path for path in found if path.stem.rsplit('_', 1)[1] in LAYOUTS]


@cache
def draw(root: Path, data: str, num_images: int) -> Path:
    """Draw a data set in the layout of ``data``; COCO's with its 80 categories."""
    folder = make_shapes(root, LAYOUTS[data], num_images, 4)
    if data == 'coco':
        from mmdet.datasets import CocoDataset
        names = CocoDataset.METAINFO['classes']
        for path in folder.glob('annotations/*.json'):
            content = json.loads(path.read_text())
            content['categories'] = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(content))
    if data == 'voc12coco':
        link_coco(folder, root / 'coco_masks')
    return folder


def link_coco(voc: Path, coco: Path) -> None:
    """Use VOC's images and label maps as COCO's, in the layout of prepare_data.py."""
    coco.mkdir(parents=True, exist_ok=True)
    masks = coco / 'voc_masks'
    masks.mkdir(exist_ok=True)
    for link, target in ((coco / 'train2017', voc / 'JPEGImages'),
                         (masks / 'train2017', voc / 'SegmentationClassAug')):
        if not link.exists():
            link.symlink_to(target.resolve(), target_is_directory=True)
    (masks / 'train2017.txt').write_text((voc / 'ImageSets/Segmentation/aug.txt').read_text())


def run(path: Path, args: argparse.Namespace) -> Dict[str, Any]:
    """Train one config; returns the result."""
    cfg = Config.fromfile(path)
    data = path.stem.rsplit('_', 1)[1]
    batch = args.batch_size or cfg.train_dataloader.batch_size
    folder = draw(args.out / f'data_{batch}', data, batch * args.iterations)
    options = [f'data_root={folder}/', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
               f'train_dataloader.batch_size={batch}', 'default_hooks.logger.interval=1',
               'log_processor.window_size=1', 'model.backbone.init_cfg=None']
    if data == 'coco':  # so that an untrained network has boxes to evaluate
        options.append('model.test_cfg.score_thr=0.005')
    if data == 'voc12coco':
        options.append(f'train_dataloader.dataset.datasets.2.data_root={folder.parents[1]}/'
                       'coco_masks')
    done = trainings.run(path, args.out / path.stem, *options, amp=args.amp)
    gpu = torch.cuda.device_count() > 0
    seconds = (statistics.median(row['time'] - row['data_time'] for row in done.iterations[1:])
               if gpu else done.cpu_seconds_an_iteration)
    return dict(device=torch.cuda.get_device_name() if gpu else 'CPU', amp=args.amp, batch=batch,
                iterations=len(done.iterations), seconds=seconds,
                images=IMAGES.get(data, 0) * cfg.train_cfg.max_epochs,
                memory_mb=max(row['memory'] for row in done.iterations),
                losses=[row['loss'] for row in done.iterations],
                validated=any('mIoU' in name or 'bbox_mAP' in name for name in done.metrics),
                deployed=any((args.out / path.stem).glob('*_deploy.pth')))


def backbone_seconds(batch: int = 4) -> float:
    """CPU seconds per image of a forward and backward pass of S0 at 224 px."""
    model, x, seconds = MobileOne('s0').train(), torch.randn(batch, 3, 224, 224), []
    for _ in range(6):
        start = time.process_time()
        model(x)[-1].sum().backward()
        seconds.append((time.process_time() - start) / batch)
    return statistics.median(seconds[1:])


def hours(row: Dict[str, Any], backbone: float) -> str:
    """The hours on one GPU: from its own speed, or estimated from that of a CPU."""
    seconds = row['images'] / row['batch'] * row['seconds']
    if not seconds:
        return ''
    if row['device'] != 'CPU':
        return f'{seconds / 3600:.1f}'
    return ' to '.join(f'{seconds / backbone * each / 3600:.1f}' for each in H200)


def table(results: Dict[str, Dict[str, Any]], backbone: float) -> str:
    """A table with a row per config."""
    columns = ('config', 'device', 'batch', 's per iteration', 'memory, MB',
               'GPU hours, estimated', 'result')
    lines = [f'| {" | ".join(columns)} |', '|--' * len(columns) + '|']
    for name, row in sorted(results.items()):
        if 'error' in row:
            lines.append(f'| {name} | | | | | | failed: {row["error"]} |')
            continue
        works = row['validated'] and row['deployed'] and all(map(math.isfinite, row['losses']))
        cells = (name, row['device'] + (', AMP' if row['amp'] else ''), row['batch'],
                 f'{row["seconds"]:.3f}', row['memory_mb'],
                 hours(row, backbone),
                 'trained, validated, folded' if works else 'incomplete')
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines) + '\n'


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--configs', default='*', help='a pattern, such as *_s0_*; default: all')
    parser.add_argument('--batch-size', type=int,
                        help="batch size on the device (default: the config's)")
    parser.add_argument('--iterations', type=int, default=8)
    parser.add_argument('--amp', action='store_true')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    record = args.out / 'dry_run.json'
    results = json.loads(record.read_text()) if record.exists() else {}
    paths = recipes(args.configs)
    for number, path in enumerate(paths, 1):
        if 'error' not in results.get(path.stem, {'error': ''}):
            continue
        print(f'== {path.stem} ({number} of {len(paths)})', flush=True)
        try:
            results[path.stem] = run(path, args)
        except Exception as error:  # continue with the others
            traceback.print_exc()
            results[path.stem] = dict(error=f'{type(error).__name__}: {error}'[:300])
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(results, indent=1))
    text = table(results, 0. if torch.cuda.device_count() else backbone_seconds())
    with atomic_path(args.out / 'dry_run.md') as temporary:
        temporary.write_text(text)
    print(text)
    return int(any('error' in row for row in results.values()))


if __name__ == '__main__':
    raise SystemExit(main())
