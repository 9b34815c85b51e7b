"""S0 from scratch on drawn shapes (tools/make_shapes.py), in minutes on two CPU cores.

This is not a recipe of the paper. Schedule and sizes are reduced for `make demo`, and every value
is our choice. Compare ssdlite_mobileone_s0_coco.py.
"""
_base_ = './_base_/ssdlite_coco.py'

norm_cfg = dict(type='BN', momentum=0.1)  # a few hundred iterations are too few for 0.03
model = dict(
    backbone=dict(
        out_indices=(1, 2, 3),  # from stride 8: at 128 pixels, objects are 10 to 80 wide
        init_cfg=[  # nothing is downloaded
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')  # shallow at first: it learns from the first iterations
        ]),
    neck=dict(  # one extra map, of 2x2 cells
        in_channels=(128, 256, 1024),
        out_channels=(128, 256, 1024, 256),
        level_strides=(2, ),
        level_paddings=(1, ),
        norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=6,
        in_channels=(128, 256, 1024, 256),
        norm_cfg=norm_cfg,
        # With 0.001, the first hundred iterations would only scale up the outputs.
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.01),
        anchor_generator=dict(  # two to four strides wide, so that several anchors fit an object
            strides=[8, 16, 32, 64],
            ratios=[[], [], [], []],  # shapes are about as wide as high
            min_sizes=[14, 28, 48, 72],
            max_sizes=[28, 48, 72, 110])),
    # Anchors that nearly fit count as neither object nor background: an easier start.
    train_cfg=dict(assigner=dict(neg_iou_thr=0.4)))

# 128x128: a sixth of the work of 320x320. No cropping, zooming or color changes: the scenes vary
# enough, and each augmentation would cost iterations.
input_size = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
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
data_root = 'data/shapes/coco/'
dataset = dict(
    data_root=data_root,
    metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross', 'ring')))
train_dataloader = dict(
    batch_size=8,  # many small steps
    num_workers=1,  # leaves the cores to the network
    dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=8, val_interval=4)
randomness = dict(seed=0)
optim_wrapper = dict(
    # learns faster than SGD in so few iterations
    optimizer=dict(_delete_=True, type='AdamW', lr=5e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35))  # instead of a long warm-up
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = [  # no EMA: its momentum needs more than a few hundred iterations
    dict(type='NumClassCheckHook'),
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW')
]
default_hooks = dict(logger=dict(interval=25))
