"""S0 from scratch on nuclei images of 2 classes (Data Science Bowl 2018), for two CPU cores.

This is not a recipe of the paper. It shows that training works without GPUs and pre-trained
weights. Every value is our choice. Data: `data/nuclei` with img_dir/{train,val}/*.jpg and
ann_dir/{train,val}/*.png, with the labels 0 (background) and 1 (nucleus).
"""
_base_ = './_base_/deeplabv3.py'

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        output_stride=8,  # half of the nuclei are less than 18 pixels wide
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')  # shallow at first: without it, 200 iterations learned background
        ]),
    # 512 channels would be most of the work. The rates fit the 16x16 map of a crop: taps that only
    # see padding in training would be untrained on whole images.
    decode_head=dict(num_classes=2, channels=32, dilations=(1, 2, 4, 6)),
    auxiliary_head=dict(num_classes=2, channels=32))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(128, 128)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25],
         direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
data_root = 'data/nuclei'
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=('background', 'nucleus'), palette=[[0, 0, 0], [220, 20, 60]]))
train_dataloader = dict(
    batch_size=4,  # many small steps
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
        **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0,
         convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=14, val_interval=7)
randomness = dict(seed=0)
custom_hooks = []  # no EMA: its momentum needs more than a few hundred iterations
default_hooks = dict(logger=dict(interval=6))
