"""Check that the COCO detector learns: overfit SSDLite-MobileOne-S0 to eight images of COCO.

    python tools/evidence/overfit_coco8.py --data-root data/coco

The network, its anchors, losses and test settings are those of ssdlite_mobileone_s0_coco.py.
For a short run without pre-trained weights, initialization, batch norm momentum, optimizer and
schedule differ, and there is no augmentation and no EMA. mmdet's CocoMetric evaluates the same
images after folding. Exits with an error if bbox_mAP_50 is below 0.9.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

import mobileone_mm.backbones.initializers  # noqa: F401  (registers SkipInit)
from mobileone_mm.datasets.coco_subset import SubsetError, write_easy_subset

CONFIG = Path(__file__).resolve().parents[2] / 'configs/detection/ssdlite_mobileone_s0_coco.py'
METRIC, LEAST = 'coco/bbox_mAP_50', 0.9


def overfit_config(data_root: str, work_dir: str, iterations: int, lr: float) -> Config:
    """The S0 config on eight images, all of them in each batch."""
    cfg = Config.fromfile(CONFIG)
    ann_file = Path(work_dir, 'eight.json').resolve()
    write_easy_subset(Path(data_root, 'annotations/instances_train2017.json'), ann_file)
    norm = dict(momentum=0.1)  # running statistics must converge within the run
    kaiming = dict(type='Kaiming', layer='Conv2d')
    cfg.merge_from_dict(dict(
        work_dir=work_dir,
        randomness=dict(seed=0),
        model=dict(
            neck=dict(norm_cfg=norm, init_cfg=dict(_delete_=True, **kaiming)),
            bbox_head=dict(norm_cfg=norm, init_cfg=dict(std=0.03)))))
    cfg.model.backbone.init_cfg = [
        kaiming, dict(type='Constant', val=1, layer='_BatchNorm'), dict(type='SkipInit')]
    images = dict(type='CocoDataset', data_root=data_root, ann_file=str(ann_file),
                  data_prefix=dict(img='train2017/'))
    loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
    steps = ('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackDetInputs')
    cfg.train_dataloader = dict(
        **loader, sampler=dict(type='InfiniteSampler'),
        dataset=dict(**images, pipeline=[s for s in cfg.train_pipeline if s['type'] in steps]))
    cfg.val_dataloader = dict(
        **loader, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(**images, test_mode=True, pipeline=cfg.test_pipeline))
    cfg.val_evaluator.ann_file = str(ann_file)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations,
                         val_interval=max(1, iterations // 4))
    cfg.optim_wrapper = dict(type='OptimWrapper', clip_grad=dict(max_norm=35),
                             optimizer=dict(type='AdamW', lr=lr, weight_decay=0.))
    warmup = iterations // 10
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        # down to 0, so that the running statistics fit the final weights
        dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=warmup, end=iterations,
             T_max=iterations - warmup)]
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'EMAHook']
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.logger.interval = 5
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=iterations)
    return cfg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', default='data/coco', help='has annotations and train2017')
    parser.add_argument('--work-dir', default='work_dirs/overfit_coco8')
    parser.add_argument('--iterations', type=int, default=100)
    parser.add_argument('--lr', type=float, default=3e-3)
    args = parser.parse_args()
    try:
        cfg = overfit_config(args.data_root, args.work_dir, args.iterations, args.lr)
    except SubsetError as error:
        sys.exit(f'error: {error}')
    runner = Runner.from_cfg(cfg)
    runner.train()
    reached = runner.message_hub.get_scalar(f'val/{METRIC}').current()
    print(f'{METRIC} on the eight training images: {reached:.3f} (expected: at least {LEAST})')
    if not reached >= LEAST:
        sys.exit(f'error: {METRIC} {reached:.3f} is below {LEAST}: the detector did not overfit')


if __name__ == '__main__':
    main()
