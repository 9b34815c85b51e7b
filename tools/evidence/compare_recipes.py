"""Compare heads, recipes and backbones on small real data, with several seeds.

    python tools/evidence/compare_recipes.py bccd --data-root data/bccd --out OUT
    python tools/evidence/compare_recipes.py nuclei --data-root data/nuclei --out OUT

Each variant changes one thing in the config of that data set and trains from scratch for the same
number of epochs or, if its name says so, for the same CPU time, rounded to epochs. OUT/results.json
keeps every finished run, so the same command continues. OUT/results.md holds means, 95 % intervals
and paired differences over the seeds that all variants have finished. The data are small and the
schedules short: this says nothing about COCO or VOC.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import trainings
from mmengine.config import Config

from mobileone_mm.commands.ablation_report import summarize
from mobileone_mm.utils.fileio import atomic_path

ROOT = Path(__file__).resolve().parents[2]
EQUAL_TIME = ', same time'
Change = Callable[[Config], None]


class Study(NamedTuple):
    """A config and changes to it."""

    config: str
    metric: str
    variants: Dict[str, Change]


def nothing(cfg: Config) -> None:
    """The config as it is."""


def mmseg_head(cfg: Config) -> None:
    """A 3x3 bottleneck instead of the paper's 1x1 projection."""
    cfg.model.decode_head.type = 'ASPPHead'


def accumulated(cfg: Config) -> None:
    """Two batches per update, as in the recipe for VOC, with a longer warm-up to match."""
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.param_scheduler[0].end *= 2


def segment_by_mobilenet_v2(cfg: Config) -> None:
    """The stock MobileNetV2 at the same output stride, 8."""
    cfg.model.backbone = dict(
        type='MobileNetV2', out_indices=(1, 2, 4, 6), strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4), norm_cfg=dict(type='BN'),
        init_cfg=cfg.model.backbone.init_cfg[:2])
    cfg.model.decode_head.in_channels = 320
    cfg.model.auxiliary_head.in_channels = 96


def cvnets_ssd(cfg: Config) -> None:
    """MobileViT's detector: projected backbone maps, joint head, the global average as a map."""
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
    """The stock MobileNetV2 at the same strides, 8, 16 and 32."""
    cfg.model.backbone = dict(type='MobileNetV2', out_indices=(2, 4, 7),
                              init_cfg=cfg.model.backbone.init_cfg[:2])
    channels = (32, 96, 1280, 256)
    cfg.model.neck.update(in_channels=channels[:3], out_channels=channels)
    cfg.model.bbox_head.in_channels = channels


STUDIES = {
    'nuclei': Study('configs/segmentation/deeplabv3_mobileone_s0_nuclei.py', 'mIoU', {
        'MobileOne-S0': nothing, "mmseg's head": mmseg_head, 'two batches an update': accumulated,
        'MobileNetV2': segment_by_mobilenet_v2,
        'MobileNetV2' + EQUAL_TIME: segment_by_mobilenet_v2}),
    'bccd': Study('configs/detection/ssdlite_mobileone_s0_bccd.py', 'coco/bbox_mAP', {
        'MobileOne-S0': nothing, "cvnets' detector": cvnets_ssd,
        'MobileNetV2': detect_by_mobilenet_v2,
        'MobileNetV2' + EQUAL_TIME: detect_by_mobilenet_v2}),
}


class Comparison:
    """The runs of a study, and the record of finished ones."""

    def __init__(self, study: Study, names: List[str], data_root: Path, out: Path,
                 epochs: int) -> None:
        self.study, self.names, self.out = study, names, out
        self.record = out / 'results.json'
        self.cfg = Config.fromfile(ROOT / study.config)
        self.data_root = data_root.resolve()
        self.epochs = epochs or self.cfg.train_cfg.max_epochs
        self.results: Dict[str, Dict[str, Any]] = (
            json.loads(self.record.read_text()) if self.record.exists() else {})

    def run(self, name: str, seed: int) -> None:
        """Train a variant, unless it is done, and record its last metric."""
        key = f'{name}/{seed}'
        if key in self.results:
            return
        work_dir = self.out / 'runs' / ''.join(filter(str.isalnum, name)) / f'seed{seed}'
        cfg = copy.deepcopy(self.cfg)
        self.study.variants[name](cfg)
        cfg.randomness = dict(seed=seed)
        cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = epochs = self.epochs_of(name, seed)
        work_dir.mkdir(parents=True, exist_ok=True)
        with atomic_path(work_dir / 'config.py') as path:
            path.write_text(cfg.pretty_text, encoding='utf-8')
        done = trainings.run(work_dir / 'config.py', work_dir, f'data_root={self.data_root}/')
        self.results[key] = dict(
            value=done.metrics[self.study.metric], epochs=epochs, seconds=sum(done.cpu_seconds),
            seconds_an_iteration=done.cpu_seconds_an_iteration)
        with atomic_path(self.record) as path:
            path.write_text(json.dumps(self.results, indent=1))
        print(f'{key}: {self.results[key]}', flush=True)

    def epochs_of(self, name: str, seed: int) -> int:
        """Number of epochs: the same for all, or what fits in the time of the first variant."""
        if not name.endswith(EQUAL_TIME):
            return self.epochs
        ours, others = (self.results[f'{variant}/{seed}']['seconds_an_iteration']
                        for variant in (self.names[0], name[:-len(EQUAL_TIME)]))
        return max(1, round(self.epochs * ours / others))

    def write(self, seeds: List[int]) -> None:
        """Write the table of finished seeds."""
        seeds = [seed for seed in seeds
                 if all(f'{name}/{seed}' in self.results for name in self.names)]
        if seeds:
            with atomic_path(self.out / 'results.md') as path:
                path.write_text(self.table(seeds))

    def table(self, seeds: List[int]) -> str:
        """A Markdown table of means, 95 % intervals, and paired differences from the first."""
        rows = summarize([dict(variant=name, seed=seed, metric=self.study.metric,
                               value=self.results[f'{name}/{seed}']['value'])
                          for name in self.names for seed in seeds])
        lines = [f'| variant | {self.study.metric}, seeds {seeds}, 95 % | difference from '
                 f'{self.names[0]} | epochs | CPU seconds of training | |', '|--' * 6 + '|']
        for row in rows:
            runs = [self.results[f'{row.name}/{seed}'] for seed in seeds]
            epochs = ', '.join(map(str, sorted({run['epochs'] for run in runs})))
            seconds = sum(run['seconds'] for run in runs) / len(runs)
            lines.append(f'| {row.name} | {row.interval} | {row.difference or ""} | {epochs} | '
                         f'{seconds:.0f} | {self.study.variants[row.name].__doc__} |')
        return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--data-root', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variants', nargs='+', help='default: all')
    parser.add_argument('--epochs', type=int, default=0, help="default: the config's")
    args = parser.parse_args()
    study = STUDIES[args.study]
    names = args.variants or list(study.variants)
    unknown = [name for name in names if name not in study.variants]
    if unknown:
        parser.error(f'unknown variants {unknown}: expected some of {list(study.variants)}')
    args.out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(study, names, args.data_root, args.out, args.epochs)
    for seed in args.seeds:
        for name in names:
            comparison.run(name, seed)
        comparison.write(args.seeds)
    print((args.out / 'results.md').read_text())


if __name__ == '__main__':
    main()
