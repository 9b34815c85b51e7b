"""SSDLite on MobileOne, COCO, 320x320: what the variants share.

The paper (arXiv 2206.04040, section 4.3, Table 11a) trains SSDLite in mmdetection: the SSD head's
convolutions become separable, the input is 320x320, and training takes 200 epochs like MobileViT's.
Its main text says no more, and no config was published. So values come from:

- [paper]        the paper's main text;
- [mmdet]        mmdetection 3.3, ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py;
- [cvnets]       ml-cvnets config/detection/ssd_coco/mobilevit.yaml, MobileViT's recipe;
- [unconfirmed]  recalled from the paper's supplement, which could not be checked: not a quotation;
- [ours]         not published: our choice.
"""
_base_ = [
    '../../_base_/apple_checkpoints.py', 'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/default_runtime.py'
]
custom_imports = dict(imports=['mobileone_mm.detection'], allow_failed_imports=False)

data_preprocessor = dict(
    type='DetDataPreprocessor',
    # ImageNet's, as used to train the MobileOne weights; also [mmdet]
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=1)  # [mmdet]: all images are 320x320
norm_cfg = dict(type='BN', eps=0.001, momentum=0.03)  # [mmdet], for the layers trained from scratch
model = dict(
    type='SingleStageDetector',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MobileOne',
        arch='s0',
        out_indices=(2, 3),  # strides 16 and 32: [mmdet], [cvnets]; the paper does not say
        # No norm_cfg: the released weights need the default eps, 1e-5; [mmdet]'s 1e-3 would change
        # what they compute.
        # [paper]: ImageNet pre-training. To train from scratch: --cfg-options
        # model.backbone.init_cfg=None
        init_cfg=dict(type='Pretrained', checkpoint={{_base_.apple_checkpoints.s0}})),
    neck=dict(
        type='SSDNeck',
        in_channels=(256, 1024),
        out_channels=(256, 1024, 512, 256, 256, 128),  # four extra maps: [mmdet]
        level_strides=(2, 2, 2, 2),  # [mmdet]
        level_paddings=(1, 1, 1, 1),  # [mmdet]
        l2_norm_scale=None,  # [mmdet]
        use_depthwise=True,  # [mmdet]
        norm_cfg=norm_cfg,
        act_cfg=dict(type='ReLU6'),  # [mmdet]; [cvnets]: ReLU
        init_cfg=dict(type='TruncNormal', layer='Conv2d', std=0.03)),  # [mmdet]
    bbox_head=dict(
        type='SSDLiteHead',  # [paper]: separable convolutions in SSD's head
        in_channels=(256, 1024, 512, 256, 256, 128),
        num_classes=80,
        norm_cfg=norm_cfg,
        act_cfg=dict(type='ReLU6'),  # [mmdet]
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.001),  # [mmdet]
        anchor_generator=dict(  # [mmdet]: 3,234 anchors on maps of 20, 10, 5, 3, 2 and 1 cells
            type='SSDAnchorGenerator',
            scale_major=False,
            strides=[16, 32, 64, 107, 160, 320],
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3], [2, 3], [2, 3]],
            min_sizes=[48, 100, 150, 202, 253, 304],
            max_sizes=[100, 150, 202, 253, 304, 320]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[.0, .0, .0, .0],
            target_stds=[0.1, 0.1, 0.2, 0.2])),  # [mmdet]; the same as [cvnets]' variances
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,  # [mmdet], [cvnets]
            neg_iou_thr=0.5,  # [mmdet], [cvnets]
            min_pos_iou=0.,  # [mmdet]: each object gets at least its best anchor
            ignore_iof_thr=-1,
            gt_max_assign_all=False),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.,  # [mmdet]
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,  # [mmdet], [cvnets]
        debug=False),
    test_cfg=dict(
        nms_pre=1000,  # [mmdet]
        nms=dict(type='nms', iou_threshold=0.45),  # [mmdet]; [cvnets]: 0.5
        min_bbox_size=0,
        score_thr=0.02,  # [mmdet]; [cvnets]: 0.01
        max_per_img=200))  # [mmdet], [cvnets]
sync_bn = None  # [mmdet]: 24 images per GPU are enough; [cvnets] synchronizes (sync_bn='torch')
env_cfg = dict(cudnn_benchmark=True)  # [mmdet]: the input size is fixed

input_size = (320, 320)  # [paper]
train_pipeline = [  # [mmdet]; the paper's main text does not mention augmentations
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='Expand',
        mean=data_preprocessor['mean'],
        to_rgb=data_preprocessor['bgr_to_rgb'],
        ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18),
    dict(type='PackDetInputs')
]
test_pipeline = [  # [mmdet]
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
train_dataloader = dict(
    batch_size=24,  # on each of 8 GPUs, 192 in total: [mmdet], [unconfirmed]
    num_workers=4,  # [mmdet]
    batch_sampler=None,  # [mmdet]: the input is square, no grouping by shape
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,  # [mmdet]
    dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# [paper]: 200 epochs. [ours]: validation every 10.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',  # --amp for mixed precision: [cvnets]
    # lr, momentum and weight decay: [unconfirmed]. [mmdet] has 0.015, 0.9 and 4e-5, from scratch.
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
    # as in mmpretrain's ImageNet recipe for MobileOne; for COCO: [ours]
    paramwise_cfg=dict(norm_decay_mult=0.))
param_scheduler = [
    # 4,500 iterations from lr / 1000: [unconfirmed]; [mmdet]: 500
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=4500),
    # Cosine to 0: [mmdet]. On ImageNet the paper also anneals the weight decay. Whether it does so
    # here is not published; this recipe does not.
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=192)  # 8 GPUs x 24 images

custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExponentialMovingAverage',
        momentum=5e-4,  # [cvnets]; also [paper], for ImageNet
        update_buffers=True,  # [cvnets]: the running statistics are averaged too
        priority=49),  # before the validation reads the weights, as in mmdet's configs
    dict(type='NumClassCheckHook'),  # [mmdet]
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW')  # [mmdet]
]
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best='coco/bbox_mAP'),  # [ours]
    # Validate and deploy the folded model; here a variant's custom_hooks do not replace it
    reparameterize=dict(type='ReparameterizeHook'))
