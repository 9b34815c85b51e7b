_base_ = './_base_/deeplabv3_ade20k.py'

model = dict(
    backbone=dict(arch='s2', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s2}})),
    decode_head=dict(in_channels=2048),
    auxiliary_head=dict(in_channels=640, channels=160))
