"""DeepLabV3 on MobileOne: model, optimization, schedule, and everything VOC and ADE20K share.

The paper (arXiv 2206.04040, section 4.3) trains DeepLabV3 in Apple's cvnets for 50 epochs by
MobileViT's procedure, and says that ADE20K has 'the same hyper-parameters and augmentations'. No
recipe for MobileOne was published. So values come from, in this order:

- [paper]   the paper;
- [cvnets]  ml-cvnets config/segmentation/pascal_voc/deeplabv3_mobilevit.yaml, MobileViT's recipe;
- [v2]      the same folder's deeplabv3_mobilevitv2.yaml, where the first leaves a value open;
- [mmseg]   mmsegmentation 1.2, _base_/models/deeplabv3_r50-d8.py and _base_/datasets;
- [ours]    not published: our choice.

[cvnets] accumulates the gradients of two batches of 64 before each update (`accum_freq: 2`): 128
images per update, and half as many updates. It counts warm-up and EMA in updates; mmengine counts
batches, so both are doubled here. cvnets sums the two gradients and mmengine averages them, which
makes no difference to AdamW.
"""
_base_ = ['../../_base_/apple_checkpoints.py', 'mmseg::_base_/default_runtime.py']
custom_imports = dict(imports=['mobileone_mm.segmentation'], allow_failed_imports=False)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='MixedSizeSegDataPreProcessor',
        # ImageNet's, as used to train the MobileOne weights; [cvnets] only scales to [0, 1]
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(512, 512),  # [cvnets]; the pipeline has already padded smaller images
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='MobileOne',
        arch='s0',
        out_indices=(0, 1, 2, 3),
        # Unknown for the paper's Table 11b. [cvnets] has 8, [v2] 16, and cvnets' public MobileOne
        # ignores the setting, which amounts to 32. [ours]: 16. Change decode_head.dilations too.
        output_stride=16,
        # [paper]: ImageNet pre-training. To train from scratch: --cfg-options
        # model.backbone.init_cfg=None
        init_cfg=dict(type='Pretrained', checkpoint={{_base_.apple_checkpoints.s0}})),
    decode_head=dict(
        # [cvnets]: a 1x1 convolution merges the branches. mmseg's head has a 3x3 one, nine times as
        # large: --cfg-options model.decode_head.type=ASPPHead
        type='DeepLabV3Head',
        in_channels=1024,
        in_index=3,
        channels=512,  # [cvnets]
        dilations=(1, 6, 12, 18),  # [v2], at output stride 16; [cvnets]: 12, 24, 36 at 8
        dropout_ratio=0.1,  # [cvnets]
        num_classes=21,
        norm_cfg=dict(type='BN'),
        # [mmseg]; [cvnets]: True, which aligns the corners of the maps instead of their pixels
        align_corners=False,
        # [cvnets]: averaged over labeled pixels, like torch's own. mmseg's default divides by all
        # pixels, including ignored ones and padding
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True)),
        # Initial weights are [mmseg]'s; [cvnets] has kaiming_normal, fan out, for classifiers too
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=256,
        in_index=2,  # [cvnets]: layer 4
        channels=128,  # [cvnets]: max(in_channels / 4, 128)
        num_convs=1,  # [cvnets]
        concat_input=False,  # [cvnets]
        dropout_ratio=0.1,  # [cvnets]
        num_classes=21,
        norm_cfg=dict(type='BN'),
        align_corners=False,  # [mmseg]
        loss_decode=dict(  # weight: cvnets' default, as in [v2] and [mmseg]
            type='CrossEntropyLoss', loss_weight=0.4, avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))  # [cvnets]
sync_bn = 'torch'  # [cvnets]; mmengine only converts if training is distributed

# [cvnets]: mixed precision. AmpOptimWrapper refuses to run on a CPU: on a GPU pass
# --amp, or --cfg-options optim_wrapper.type=AmpOptimWrapper
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=9e-4, betas=(0.9, 0.999), weight_decay=0.01),  # [cvnets]
    accumulative_counts=2,  # [cvnets]
    # [cvnets]: heads learn 10 times faster; norms and biases decay too. On ImageNet the paper
    # anneals the weight decay. Whether it does so here is not published; [cvnets] does not.
    paramwise_cfg=dict(
        custom_keys={'decode_head': dict(lr_mult=10.), 'auxiliary_head': dict(lr_mult=10.)}))
param_scheduler = [
    # [cvnets]: 500 updates, 1,000 batches, from 9e-5
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
    # [cvnets]: to 1e-6; a ratio, so that heads end 10 times higher, as in cvnets. cvnets steps
    # down once per epoch, this follows the same curve with every batch
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-6 / 9e-4,
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=1)  # [paper], [cvnets]
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=64)  # [cvnets]: 4 GPUs x 16, before accumulation

custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExponentialMovingAverage',
        momentum=5e-4,  # [cvnets]
        interval=2,  # [cvnets]: once per update, see accumulative_counts
        update_buffers=True,  # [cvnets]: the running statistics are averaged too
        priority=49)  # before the validation reads the weights, as in mmdet's configs
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # [cvnets] keeps the best by IoU
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    # Validate and deploy the folded model; here a variant's custom_hooks do not replace it
    reparameterize=dict(type='ReparameterizeHook'))
log_processor = dict(by_epoch=True)
