"""S0 from scratch on BCCD's blood cells (205 images, 3 classes), small enough for two CPU cores.

This is not a recipe of the paper. It shows that training works without GPUs and pre-trained
weights. Every value is our choice. Data: `data/bccd` with train, val and annotations.
"""
_base_ = './_base_/ssdlite_coco.py'

data_root = 'data/bccd/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
input_size = (192, 192)  # instead of 512x384: a third of the work of 320x320
norm_cfg = dict(type='BN', momentum=0.1)  # 26 iterations per epoch: follow faster
model = dict(
    backbone=dict(
        out_indices=(1, 2, 3),  # from stride 8: platelets are 14 pixels wide
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')  # shallow at first: it learns from the first iterations
        ]),
    neck=dict(
        in_channels=(128, 256, 1024),
        out_channels=(128, 256, 1024, 256),
        level_strides=(2, ),
        level_paddings=(1, ),
        norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=3,
        in_channels=(128, 256, 1024, 256),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.01),  # 0.001 wastes iterations
        # Median sizes at 192 pixels: platelets 14, red cells 35, white cells 65.
        anchor_generator=dict(
            strides=[8, 16, 32, 64],
            ratios=[[2], [2], [2], [2]],
            min_sizes=[14, 34, 60, 90],
            max_sizes=[34, 60, 90, 130])))

# Cells look the same in any orientation; zooming out to 1/4 would make platelets invisible.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='MinIoURandomCrop', min_ious=(0.5, 0.7, 0.9), min_crop_size=0.6),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25],
         direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline,
                 ann_file='annotations/instances_train.json', data_prefix=dict(img='train/')))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline,
                 ann_file='annotations/instances_val.json', data_prefix=dict(img='val/')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=14, val_interval=7)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35),
    paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = [dict(type='NumClassCheckHook')]  # no EMA: 364 iterations are too few
default_hooks = dict(logger=dict(interval=5))
