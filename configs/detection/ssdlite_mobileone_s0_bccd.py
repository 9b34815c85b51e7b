"""S0 from scratch on BCCD's blood cells (205 images, 3 classes), small enough for two CPU cores.

Not a recipe of the paper: it shows that training works where there are neither GPUs nor pre-trained
weights. Every value is our choice. Data: `data/bccd` with train, val and annotations.
"""
_base_ = './_base_/ssdlite_coco.py'

data_root = 'data/bccd/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
norm_cfg = dict(type='BN', eps=0.001, momentum=0.1)  # 26 iterations an epoch: follow faster
model = dict(
    backbone=dict(init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=3,
        norm_cfg=norm_cfg,
        # Median sizes at 320 px: platelets 23, red cells 59, white cells 109. A map has square
        # anchors of min and sqrt(min * max): 24 and 60 at stride 16, where crowded red cells match.
        anchor_generator=dict(min_sizes=[24, 70, 110, 150, 202, 253],
                              max_sizes=[150, 120, 150, 202, 253, 304])))

# Cells look the same in any orientation; a zoom out to 1/4 would make platelets invisible.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='MinIoURandomCrop', min_ious=(0.5, 0.7, 0.9), min_crop_size=0.6),
    dict(type='Resize', scale=(320, 320), keep_ratio=False),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25],
         direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs')
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline,
                 ann_file='annotations/instances_train.json', data_prefix=dict(img='train/')))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo,
                 ann_file='annotations/instances_val.json', data_prefix=dict(img='val/')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=40, val_interval=5)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = [dict(type='NumClassCheckHook')]  # no EMA: 1,000 iterations are too few for it
default_hooks = dict(logger=dict(interval=5))
