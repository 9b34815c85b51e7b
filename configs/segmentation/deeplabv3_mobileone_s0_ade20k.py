_base_ = './_base_/deeplabv3_ade20k.py'

model = dict(
    backbone=dict(arch='s0', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s0}})),
    decode_head=dict(in_channels=1024),
    auxiliary_head=dict(in_channels=256, channels=128))
