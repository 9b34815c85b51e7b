_base_ = './_base_/deeplabv3_ade20k.py'

model = dict(
    backbone=dict(
        arch='s0',
        init_cfg=dict(
            checkpoint='https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
            'mobileone_s0_unfused.pth.tar')),
    decode_head=dict(in_channels=1024),
    auxiliary_head=dict(in_channels=256, channels=128))
