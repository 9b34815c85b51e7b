"""Train the COCO recipe on a handful of drawn shapes, like tools/train.py."""

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Dict

import torch
from paths import ROOT

from mobileone_mm.commands.train_test import train
from mobileone_mm.datasets.drawn.shapes import make_shapes

CONFIG = ROOT / 'configs/detection/ssdlite_mobileone_s0_coco.py'


def write_config(folder: Path, num_train: int = 8) -> Path:
    """A small net, 2 epochs, batches of 2, 64 pixels and 2 workers; the rest is the recipe's."""
    data = make_shapes(folder, 'coco', num_train=num_train, num_val=2)
    path = folder / 'tiny.py'
    path.write_text(f"""
_base_ = {str(CONFIG)!r}
classes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
dataset = dict(data_root={str(data)!r} + '/', metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=2, num_workers=2, dataset=dataset)
val_dataloader = dict(batch_size=2, num_workers=2, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={str(data)!r} + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
channels = (64, 128, 32, 32, 32, 16)
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, width_factor=(.25, .25, .25, .25), num_blocks=(1, 1, 1, 1)),
        init_cfg=None),
    neck=dict(in_channels=channels[:2], out_channels=channels),
    bbox_head=dict(num_classes=6, in_channels=channels))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5)]
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(  # no ReparameterizeHook, which takes longer than the training
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=1),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'))
log_processor = dict(window_size=1)
log_level = 'ERROR'
""")
    return path


def run(config: Path, work_dir: Path, *arguments: str, **options) -> int:
    """Train; returns the exit status."""
    scale, name = '(64,64)', f'{work_dir.name}-{os.urandom(4).hex()}'
    options = {
        'train_dataloader.dataset.pipeline.4.scale': scale,
        'val_dataloader.dataset.pipeline.1.scale': scale,
        # mmengine has one message hub and visualizer per name and process
        'experiment_name': name,
        'visualizer.name': name,
        **options}
    try:
        train([str(config), '--work-dir', str(work_dir), *arguments, '--cfg-options',
               *(f'{key}={value}' for key, value in options.items())])
    except SystemExit as stop:
        return stop.code
    return 0


def fork(*arguments, **options) -> multiprocessing.Process:
    """Train in a process that leads its own process group."""
    def work() -> None:
        threading.Thread(target=_end_with, args=(os.getppid(), ), daemon=True).start()
        os.setsid()
        torch.set_num_threads(1)  # thread pools do not survive a fork
        raise SystemExit(run(*arguments, **options))
    process = multiprocessing.get_context('fork').Process(target=work)
    process.start()
    return process


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def losses(work_dir: Path) -> Dict[int, float]:
    """The logged loss of each iteration, over all runs in the directory."""
    lines = [json.loads(line) for path in work_dir.glob('*/vis_data/scalars.json')
             for line in path.read_text().splitlines() if line.endswith('}')]
    return {line['step']: line['loss'] for line in lines if 'loss' in line}
