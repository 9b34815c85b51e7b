"""The text of the config; its fields are filled with literals only."""

__all__ = ['assemble']


def assemble(start: str, levels: bool) -> str:
    """The template of a config.

    Args:
        start: Where the backbone starts: 'ImageNet', 'checkpoint' or 'scratch'.
        levels: Whether input size, feature maps and anchors differ from the COCO config's.

    Returns:
        A template for :func:`mobileone_mm.datasets.written_config.fill`.
    """
    scratch = start == 'scratch'
    backbone = [START[start]] + [OUT_INDICES] * levels
    return TEMPLATE % dict(
        norm=QUICK_NORM if scratch else '',
        backbone=''.join(backbone),
        neck=(NECK if levels else '') + (NORM if scratch else ''),
        head=(HEAD if levels else '') + (NORM + HEAD_INIT if scratch else ''),
        pipelines=PIPELINES % dict(
            augmentation=LIGHT_AUGMENTATION if scratch else AUGMENTATION) if levels else '',
        train_pipeline=' pipeline=train_pipeline,' if levels else '',
        test_pipeline=' pipeline=test_pipeline,' if levels else '',
        optimizer=FROM_SCRATCH if scratch else FINE_TUNING)


TEMPLATE = '''\
"""SSDLite on your own data set; written by tools/custom_coco.py, yours to edit."""
_base_ = {base}

classes = {classes}
metainfo = dict(classes=classes)
%(norm)smodel = dict(
    backbone=dict(%(backbone)s),
    neck=dict(%(neck)s),
    bbox_head=dict(%(head)s
        num_classes=len(classes)))
%(pipelines)strain_dataloader = dict(
    batch_size={batch_size},
    num_workers={workers},
    persistent_workers={persistent},
    drop_last={drop_last},
    dataset=dict(
        data_root='', metainfo=metainfo,%(train_pipeline)s
        filter_cfg=dict(filter_empty_gt={drop_negatives}, min_size={min_size}),
        ann_file={train_file},
        data_prefix=dict(img={train_images})))
val_dataloader = dict(
    num_workers={workers},
    persistent_workers={persistent},
    dataset=dict(
        data_root='', metainfo=metainfo,%(test_pipeline)s
        ann_file={val_file},
        data_prefix=dict(img={val_images})))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={val_file})
test_evaluator = val_evaluator

# {iterations} iterations in all: {epochs} epochs of {per_epoch}
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
%(optimizer)s
auto_scale_lr = dict(enable=False, base_batch_size={batch_size})  # lr is for this
param_scheduler = [
    dict(type='LinearLR', start_factor={start_factor}, by_epoch=False, begin=0, end={warmup}),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = [
    dict(  # over a tenth of the iterations so far, at most 2,000: it cannot lag behind a short run
        type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=5e-4, gamma=10,
        update_buffers=True, priority=49),
    dict(type='NumClassCheckHook'),
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW')
]
default_hooks = dict(logger=dict(interval={log_interval}))
'''

# Where the backbone starts
START = {
    'ImageNet': '',
    'checkpoint': """
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint={checkpoint}),""",
    'scratch': """
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')  # shallow at first: it learns from the first iterations
        ],"""}
OUT_INDICES = """
        out_indices={out_indices}"""
NECK = """
        in_channels={in_channels},
        out_channels={channels},
        level_strides={level_strides},
        level_paddings={level_paddings},"""
HEAD = """
        in_channels={channels},
        anchor_generator=dict(  # for the input size
            strides={strides},
            ratios={ratios},
            min_sizes={min_sizes},
            max_sizes={max_sizes}),"""
PIPELINES = """
input_size = {input_size}
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),%(augmentation)s
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
"""
AUGMENTATION = """  # as in the base config
    dict(type='Expand', mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type='Resize', scale=input_size, keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18),"""
FINE_TUNING = """\
# The base's rate, scaled to this batch size
optim_wrapper = dict(optimizer=dict(lr={lr}), clip_grad=dict(max_norm=35))"""

# A short training from scratch learns only if it is made easy, as in
# configs/detection/ssdlite_mobileone_s0_bccd.py.
QUICK_NORM = """\
norm_cfg = dict(type='BN', momentum=0.1)  # few iterations: follow faster than with 0.03
"""
NORM = """
        norm_cfg=norm_cfg,"""
HEAD_INIT = """
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.01),  # 0.001 wastes iterations"""
LIGHT_AUGMENTATION = """
    dict(type='RandomFlip', prob=0.5),
    dict(type='MinIoURandomCrop', min_ious=(0.5, 0.7, 0.9), min_crop_size=0.6),
    dict(type='Resize', scale=input_size, keep_ratio=False),"""
FROM_SCRATCH = """\
# From scratch AdamW needs fewer iterations than SGD
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr={lr}, weight_decay=0.01),
    clip_grad=dict(max_norm=35))"""
