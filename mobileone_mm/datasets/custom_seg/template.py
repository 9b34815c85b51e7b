"""The text of the config that tools/custom_seg.py writes."""

TEMPLATE = '''\
"""DeepLabV3 on your own data set; written by tools/custom_seg.py, yours to edit."""
_base_ = {base}

metainfo = dict(
    classes={classes},
    palette={palette})
num_classes = {num_classes}
crop_size = ({size}, {size})
model = dict(
    data_preprocessor=dict(size=crop_size),
{init}    decode_head=dict(
        num_classes=num_classes,
        dilations={dilations}{weights}),
    auxiliary_head=dict(num_classes=num_classes{auxiliary_weights}){test_cfg})

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    {train_resize},
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),{test_resize}
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
train_set = dict(
    type='ListedSegDataset', metainfo=metainfo, ann_file={train_list},
    data_prefix=dict(img_path={train_images}, seg_map_path={train_masks}),
    pipeline=train_pipeline)
val_set = dict(
    type='ListedSegDataset', metainfo=metainfo, ann_file={val_list},
    data_prefix=dict(img_path={val_images}, seg_map_path={val_masks}),
    pipeline=test_pipeline)
train_dataloader = dict(
    batch_size={batch_size},
    num_workers={workers},
    persistent_workers={persistent},
    # The batch norm of DeepLabV3's image pooling cannot train on a last batch of one image.
    drop_last=True,
    dataset={train_dataset})
val_dataloader = dict(
    num_workers={workers}, persistent_workers={persistent}, dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader

# {iterations:,} iterations in all: {epochs} epochs of {per_epoch}.
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
{optimizer}
auto_scale_lr = dict(base_batch_size={batch_size})  # lr is already scaled
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end={warmup}),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=True, begin=0,
         convert_to_iter_based=True)
]
custom_hooks = [
    dict(  # averages over about a tenth of the training, at most as long as in the base config
        type='EMAHook', ema_type='ExponentialMovingAverage', momentum={ema:.2g},
        update_buffers=True, priority=49)
]
default_hooks = dict(logger=dict(interval={log_interval}))
'''
FINE_TUNING = """\
# The base's rate, scaled by the square root of the batch size, as usual for AdamW
optim_wrapper = dict(optimizer=dict(lr={lr:.3g}), accumulative_counts=1)"""
FROM_SCRATCH = """\
# From scratch the heads learn as fast as the backbone
optim_wrapper = dict(
    optimizer=dict(lr={lr:.3g}), accumulative_counts=1,
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.))"""
SCRATCH_INIT = """\
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')
        ]),
"""
RESIZE = "dict(type='Resize', scale={scale}, keep_ratio=True),"
RANDOM_RESIZE = ("dict(type='RandomResize', scale={scale}, ratio_range=(0.5, 1.5), "
                 'keep_ratio=True)')
RANDOM_FACTOR = """dict(
        type='RandomChoice',
        transforms=[[dict(type='Resize', scale_factor=factor)] for factor in (0.75, 1.0, 1.25)])"""
