"""Compare heads, recipes and backbones on small real data, with several seeds.

    python tools/evidence/compare_recipes.py bccd --data-root data/bccd --out OUT
    python tools/evidence/compare_recipes.py nuclei --data-root data/nuclei --out OUT --jobs 4

Each variant changes the config of that data set in one respect and trains from scratch as many
epochs as it. OUT/results.json keeps every finished run, so a stopped comparison continues;
OUT/results.md holds means, 95 % intervals and paired differences. The data are small and so are the
schedules: this says nothing about COCO or VOC.
"""

import argparse
import copy
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

from mmengine.config import Config

from mobileone_mm.commands.ablation import last_value
from mobileone_mm.commands.ablation_report import summarize
from mobileone_mm.utils.fileio import atomic_path

ROOT = Path(__file__).resolve().parents[2]
Change = Callable[[Config], None]


class Study(NamedTuple):
    """A config, and what is changed in it."""

    config: str
    metric: str
    variants: Dict[str, Change]


def nothing(cfg: Config) -> None:
    """The config as it is."""


def mmseg_head(cfg: Config) -> None:
    """A 3x3 bottleneck in place of the paper's 1x1 projection."""
    cfg.model.decode_head.type = 'ASPPHead'


def accumulated(cfg: Config) -> None:
    """Two batches an update, as in the recipe for VOC; warm-up lengthened likewise."""
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.param_scheduler[0].end *= 2


def segment_by_mobilenet_v2(cfg: Config) -> None:
    """The stock MobileNetV2 at the same output stride of 8."""
    cfg.model.backbone = dict(
        type='MobileNetV2', out_indices=(1, 2, 4, 6), strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4), norm_cfg=dict(type='BN'),
        init_cfg=cfg.model.backbone.init_cfg[:2])
    cfg.model.decode_head.in_channels = 320
    cfg.model.auxiliary_head.in_channels = 96


def cvnets_ssd(cfg: Config) -> None:
    """The detector of MobileViT's recipe: projected taps, joint head, the average as a map."""
    channels = (256, 512, 256, 128, 64)
    norm_cfg = dict(type='BN', momentum=0.1)
    cfg.model.neck = dict(type='CVNetsSSDNeck', in_channels=(128, 256, 1024), out_channels=channels,
                          norm_cfg=norm_cfg)
    head = cfg.model.bbox_head
    head.type, head.in_channels, head.norm_cfg = 'CVNetsSSDHead', channels, norm_cfg
    head.init_cfg = dict(type='Xavier', layer='Conv2d', distribution='uniform', bias=0)
    anchors = head.anchor_generator
    anchors.strides, anchors.ratios = [*anchors.strides, 192], [*anchors.ratios, [2]]
    anchors.min_sizes, anchors.max_sizes = [*anchors.min_sizes, 130], [*anchors.max_sizes, 170]


def detect_by_mobilenet_v2(cfg: Config) -> None:
    """The stock MobileNetV2 at the same strides of 8, 16 and 32."""
    cfg.model.backbone = dict(type='MobileNetV2', out_indices=(2, 4, 7),
                              init_cfg=cfg.model.backbone.init_cfg[:2])
    channels = (32, 96, 1280, 256)
    cfg.model.neck.update(in_channels=channels[:3], out_channels=channels)
    cfg.model.bbox_head.in_channels = channels


STUDIES = {
    'nuclei': Study('configs/segmentation/deeplabv3_mobileone_s0_nuclei.py', 'mIoU', {
        'MobileOne-S0': nothing, "mmseg's head": mmseg_head, 'two batches an update': accumulated,
        'MobileNetV2': segment_by_mobilenet_v2}),
    'bccd': Study('configs/detection/ssdlite_mobileone_s0_bccd.py', 'coco/bbox_mAP', {
        'MobileOne-S0': nothing, "cvnets' detector": cvnets_ssd,
        'MobileNetV2': detect_by_mobilenet_v2}),
}


class Comparison:
    """Runs of a study, and the record of those that ended."""

    def __init__(self, study: Study, data_root: Path, out: Path, epochs: int) -> None:
        self.study, self.out, self.record = study, out, out / 'results.json'
        self.cfg = Config.fromfile(ROOT / study.config)
        self.data_root = data_root.resolve()
        if epochs:
            self.cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        self.results: Dict[str, float] = (
            json.loads(self.record.read_text()) if self.record.exists() else {})

    def run(self, name: str, seed: int) -> float:
        """Train a variant by tools/train.py; its last metric."""
        key = f'{name}/{seed}'
        if key not in self.results:
            work_dir = self.out / 'runs' / ''.join(filter(str.isalnum, name)) / f'seed{seed}'
            cfg = copy.deepcopy(self.cfg)
            self.study.variants[name](cfg)
            cfg.randomness = dict(seed=seed)
            work_dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(work_dir / 'config.py') as path:
                path.write_text(cfg.pretty_text, encoding='utf-8')
            with open(work_dir / 'output.txt', 'w') as output:
                subprocess.run(
                    [sys.executable, str(ROOT / 'tools/train.py'), str(work_dir / 'config.py'),
                     '--work-dir', str(work_dir), '--resume', '--cfg-options',
                     f'data_root={self.data_root}/'], check=True, stdout=output, stderr=output)
            self.results[key] = last_value(work_dir, self.study.metric)
            with atomic_path(self.record) as path:
                path.write_text(json.dumps(self.results, indent=1))
        print(f'{name}, seed {seed}: {self.study.metric} {self.results[key]:.4g}', flush=True)
        return self.results[key]

    def table(self, names: List[str], seeds: List[int]) -> str:
        """Markdown: means, 95 % intervals and differences from the first, paired by seed."""
        rows = summarize([dict(variant=name, seed=seed, metric=self.study.metric,
                               value=self.results[f'{name}/{seed}'])
                          for name in names for seed in seeds])
        lines = [f'| variant | {self.study.metric}, {len(seeds)} seeds, 95 % | difference from '
                 f'{names[0]} | |', '|--|--|--|--|']
        lines += [f'| {row.name} | {row.interval} | {row.difference or ""} | '
                  f'{self.study.variants[row.name].__doc__} |' for row in rows]
        return '\n'.join(lines) + '\n'


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--data-root', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variants', nargs='+', help='by default all')
    parser.add_argument('--epochs', type=int, default=0, help="by default the config's")
    parser.add_argument('--jobs', type=int, default=1, help='trainings side by side')
    args = parser.parse_args()
    study = STUDIES[args.study]
    names = args.variants or list(study.variants)
    unknown = [name for name in names if name not in study.variants]
    if unknown:
        parser.error(f'unknown variants {unknown}: expected some of {list(study.variants)}')
    args.out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(study, args.data_root, args.out, args.epochs)
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(comparison.run, name, seed) for seed in args.seeds for name in names]
        failed = [run.exception() for run in runs if run.exception()]
    if failed:
        print(f'{len(failed)} of {len(runs)} trainings failed, the first: {failed[0]}; see '
              f'{args.out}/runs', file=sys.stderr)
        return 1
    text = comparison.table(names, args.seeds)
    with atomic_path(args.out / 'results.md') as path:
        path.write_text(text)
    print(f'\n{text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
