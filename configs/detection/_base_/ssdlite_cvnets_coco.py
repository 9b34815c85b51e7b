"""SSDLite on MobileOne with the complete MobileViT recipe of cvnets.

Every value comes from ml-cvnets config/detection/ssd_coco/mobilevit.yaml or from the code that it
runs, unless a comment says otherwise. Images are normalized as the ImageNet weights expect; cvnets
only scales them to 0 to 1. In favor of this recipe: the paper's authors worked with cvnets, and
refer to its 200 epochs. In favor of ssdlite_coco.py: the paper says that it trained SSDLite in
mmdetection, not in cvnets.
"""
_base_ = './ssdlite_coco.py'

norm_cfg = dict(type='BN')  # eps 1e-5, momentum 0.1; synchronized when training is distributed
input_size = (320, 320)
channels = (512, 256, 256, 128, 128, 64)
model = dict(
    neck=dict(
        _delete_=True,
        type='CVNetsSSDNeck',
        in_channels=(256, 1024),
        out_channels=channels,
        norm_cfg=norm_cfg,
        act_cfg=dict(type='ReLU')),
    bbox_head=dict(
        type='CVNetsSSDHead',
        in_channels=channels,
        norm_cfg=norm_cfg,
        init_cfg=dict(
            _delete_=True, type='Xavier', layer='Conv2d', distribution='uniform', bias=0),
        # Sizes: numpy.linspace(0.1, 1.05, 7) * 320. cvnets also clips widths and heights to the
        # image's, which here affects the two oblong anchors of the last map.
        anchor_generator=dict(
            strides=[16, 32, 64, 320 / 3, 160, 320],
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3], [2, 3], [2]],
            min_sizes=[320 * (0.1 + i * 0.95 / 6) for i in range(6)],
            max_sizes=[320 * (0.1 + i * 0.95 / 6) for i in range(1, 7)])),
    test_cfg=dict(
        nms_pre=1000,  # mmdet's, per map; cvnets keeps the 400 best of each class
        nms=dict(type='nms', iou_threshold=0.5),
        score_thr=0.01))
sync_bn = 'torch'

train_pipeline = [  # in cvnets' order
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # mmdet's MinIoURandomCrop requires the overlap of all boxes, cvnets of one
    dict(type='SSDCrop'),
    # mmdet adds to the brightness, cvnets multiplies it by 0.875 to 1.125; hue +-18 degrees.
    # Contrast and saturation scale the values, in cvnets their distance to gray. As in cvnets,
    # half of the images get their channels permuted.
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=9),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=input_size, keep_ratio=False, interpolation='bicubic'),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=input_size, keep_ratio=False, interpolation='bicubic'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]
train_dataloader = dict(
    batch_size=32,  # on each of 4 GPUs
    num_workers=8,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',  # --amp: cvnets trains in mixed precision
    # Norms and biases decay too
    optimizer=dict(type='AdamW', lr=9e-4, betas=(0.9, 0.999), weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
    # cvnets steps down once per epoch, this follows the same curve with every batch
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=0, convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
