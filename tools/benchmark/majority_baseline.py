"""Compute the mIoU of always predicting the most common class in training.

    python tools/benchmark/majority_baseline.py CONFIG

The mIoU of a trained model means something only above this.
"""

import argparse
import sys

import numpy as np
import rich.progress
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, METRICS

from mobileone_mm import segmentation  # noqa: F401  (registers what the configs name)
from mobileone_mm.commands.main import main as run
from mobileone_mm.utils.configs import read_config


def labels(dataset: torch.utils.data.Dataset) -> list:
    """The label map of every image, (H, W) each."""
    return [dataset[i]['data_samples'].gt_sem_seg.data[0]
            for i in rich.progress.track(range(len(dataset)), 'labels')]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE')
    args = parser.parse_args()
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope('mmseg')
    val = DATASETS.build(cfg.val_dataloader.dataset)
    train = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=cfg.test_pipeline))
    classes = len(val.metainfo['classes'])
    pixels = sum(np.bincount(label.numpy().ravel(), minlength=256)[:classes]
                 for label in labels(train))
    majority = int(pixels.argmax())
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = val.metainfo
    for label in labels(val):
        prediction = torch.full_like(label, majority)
        metric.process({}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=label))])
    result = metric.evaluate(len(val))
    print(f'always {val.metainfo["classes"][majority]!r} '
          f'({pixels[majority] / pixels.sum():.1%} of the training pixels): '
          + ', '.join(f'{name} {value:.2f}' for name, value in result.items()))


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
