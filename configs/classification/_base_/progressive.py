"""S2 to S4: AutoAugment, and progressive learning of resolution and augmentation strength.

[paper]: for S2, S3 and S4, AutoAugment's strength and the resolution grow during training. Their
values are not published. Resolutions, factors and epochs are [mmpretrain]'s, which follow the steps
in the paper's Figure 4. AutoAugment's policies have fixed magnitudes, so 'strength' is the share of
images that get it: [ours]. [mmpretrain] scales the magnitude of RandAugment instead:
mobileone_s2_randaugment_in1k.py.

mmpretrain 1.2.0 itself switches nothing: its files give SwitchRecipeHook the key `pipeline`, but
the hook reads `train_pipeline`.
"""
_base_ = './mobileone_in1k.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomApply',
        prob=1.,
        transforms=[dict(type='AutoAugment', policies='imagenet',
                         hparams=dict(pad_val=[104, 116, 124]))]),
    dict(type='PackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(
    progressive=dict(
        type='ProgressiveLearningHook',
        stages=[
            dict(epoch=1, resolution=160, strength=0.3),
            dict(epoch=37, resolution=192, strength=0.7),
            dict(epoch=112, resolution=224, strength=1.)
        ]))
