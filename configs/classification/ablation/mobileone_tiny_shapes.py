"""A small network of S0's blocks on small drawn shapes: a dozen trainings in minutes on a CPU.

Use it to try tools/ablation.py, not to draw conclusions on MobileOne. Every value is our choice.
"""
_base_ = '../mobileone_s0_shapes.py'

model = dict(
    backbone=dict(arch=dict(
        _delete_=True,
        width_factor=(0.25, 0.25, 0.25, 0.25),
        num_conv_branches=(4, 4, 4, 4),
        num_blocks=(1, 2, 2, 1))),
    head=dict(in_channels=128))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(48, 48), backend='pillow'),
    dict(type='PackInputs')
]
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=6, val_interval=6)
default_hooks = dict(
    checkpoint=dict(interval=6),
    progressive=dict(stages=[
        dict(epoch=1, resolution=32, strength=0.),
        dict(epoch=3, resolution=40, strength=0.2),
        dict(epoch=5, resolution=48, strength=0.4)
    ]))
