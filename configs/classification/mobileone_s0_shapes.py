"""S0 from scratch on drawn shapes (tools/make_shapes.py --layout imagenet), for two CPU cores.

This is not a recipe of the paper. It shows all of its parts at work in minutes, including
progressive learning. Every value is our choice.
"""
_base_ = './_base_/mobileone_in1k.py'

data_root = 'data/shapes/imagenet'
classes = ('circle', 'cross', 'ring', 'square', 'star', 'triangle')  # as sorted folders
data_preprocessor = dict(num_classes=6)
model = dict(
    backbone=dict(init_cfg=[
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer='_BatchNorm'),
        dict(type='SkipInit')  # shallow at first: it learns from the first iterations
    ]),
    head=dict(num_classes=6, topk=(1, )))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.), backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomApply', prob=1., transforms=[dict(type='AutoAugment', policies='imagenet')]),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), backend='pillow'),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, ))
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=6, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=True, begin=0, end=1,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=True, begin=1,
         convert_to_iter_based=True)
]
custom_hooks = []  # no EMA: its momentum needs more than a few hundred iterations
default_hooks = dict(
    logger=dict(interval=10),
    progressive=dict(
        type='ProgressiveLearningHook',
        stages=[
            dict(epoch=1, resolution=64, strength=0.),
            dict(epoch=3, resolution=80, strength=0.2),
            dict(epoch=5, resolution=96, strength=0.4)
        ]))
