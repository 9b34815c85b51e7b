"""S0 from scratch on drawn shapes (tools/make_shapes.py --layout voc), in minutes on two CPU cores.

This is not a recipe of the paper. Sizes and schedule are reduced for `make demo-seg`, and every
value is our choice. Compare deeplabv3_mobileone_s0_voc12aug.py.
"""
_base_ = './_base_/deeplabv3_voc12aug.py'

# Shapes act as the first six object classes; the others do not occur.
metainfo = dict(
    classes=('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus'),
    palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128],
             [0, 128, 128]])
crop_size = (128, 128)  # a sixteenth of the work of 512x512
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        init_cfg=[  # nothing is downloaded
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')  # shallow at first: it learns from the first iterations
        ]),
    # a narrower head; at stride 16 the map of 128 pixels is 8 wide, where larger rates see padding
    decode_head=dict(num_classes=7, channels=128, dilations=(1, 2, 4, 6)),
    auxiliary_head=dict(num_classes=7))

train_pipeline = [  # no cropping or color changes: the scenes vary enough
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size, keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
data_root = 'data/shapes/VOCdevkit/VOC2012'
dataset_train = dict(
    type='PascalVOCDataset',
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/train.txt',
    pipeline=train_pipeline)
dataset_aug = dict(
    type='PascalVOCDataset',
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    ann_file='ImageSets/Segmentation/aug.txt',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,  # many small steps
    num_workers=1,  # leaves the cores to the network
    dataset=dict(datasets=[dataset_train, dataset_aug]))
val_dataloader = dict(
    num_workers=1, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=5)
randomness = dict(seed=0)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    accumulative_counts=1,
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.))  # both parts start from scratch
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = []  # no EMA: its momentum needs more than a few hundred iterations
default_hooks = dict(logger=dict(interval=25))
