"""The recipe on ADE20K's 150 classes (20,210 training images).

It follows the paper: 'the same hyper-parameters and augmentations' as on VOC. cvnets' own ADE20K
recipes for other networks differ (SGD 0.02, weight decay 1e-4, batch 16, stride 8).
"""
_base_ = ['./deeplabv3.py', 'mmseg::_base_/datasets/ade20k.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),  # label 0 is 'other': ignored
    # Sources as in deeplabv3_voc12aug.py.
    dict(type='RandomResize', scale=[(1024, 256), (1024, 768)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(512, 512), pad_val=dict(img=0, seg=255)),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomGaussianBlur'),
    dict(type='PhotoMetricDistortion', hue_delta=9),
    dict(type='RandomRotate', prob=1.0, degree=10, pad_val=0, seg_pad_val=255),
    dict(type='PackSegInputs')
]
train_dataloader = dict(
    batch_size=16,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline))
model = dict(decode_head=dict(num_classes=150), auxiliary_head=dict(num_classes=150))
