"""MobileOne on ImageNet-1k: what the variants share. Needs mmpretrain (extra: classification).

Values come from:

- [paper]       arXiv 2206.04040, section 3.4 and 4.1;
- [mmpretrain]  mmpretrain 1.2, configs/mobileone, which reproduces the paper's accuracy;
- [ours]        not published: our choice.
"""
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
          'mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['mobileone_mm'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    # Ours: mmpretrain's registry has its own MobileOne.
    backbone=dict(type='mmengine.MobileOne', arch='s0', out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),  # [paper]
        topk=(1, 5)))

data_root = 'data/imagenet'
train_pipeline = [  # [paper]: random resized crop and flip for S0 and S1
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
train_dataloader = dict(  # 32 on each of 8 GPUs, 256 in total: [paper]
    batch_size=32, persistent_workers=True, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=256, persistent_workers=True)  # [mmpretrain]; 224 px: [paper]
test_dataloader = val_dataloader

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)  # [paper]: 300 epochs
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    # [paper]; momentum: [mmpretrain]
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=5,
         convert_to_iter_based=True),  # [mmpretrain]
    # [paper]: cosine; last value: [mmpretrain]
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5,
         convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=256)  # [paper]

custom_hooks = [
    dict(
        type='EMAHook',
        momentum=5e-4,  # [paper]: decay 0.9995
        update_buffers=True,  # [mmpretrain]
        priority=49)  # before the validation reads the weights
]
default_hooks = dict(
    # [paper]: 1e-4 to 1e-5 with the learning rate's cosine. No decay of norms: [mmpretrain]; or of
    # biases: [ours]
    weight_decay=dict(type='WeightDecayAnnealingHook', min_ratio=0.1),
    checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'),  # [ours]
    # Validate and deploy the folded model; here a variant's custom_hooks do not replace it
    reparameterize=dict(type='ReparameterizeHook'))
