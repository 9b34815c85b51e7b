_base_ = './_base_/deeplabv3_ade20k.py'

model = dict(
    backbone=dict(arch='s1', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s1}})),
    decode_head=dict(in_channels=1280),
    auxiliary_head=dict(in_channels=512, channels=128))
