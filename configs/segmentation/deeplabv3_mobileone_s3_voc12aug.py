_base_ = './_base_/deeplabv3_voc12aug.py'

model = dict(
    backbone=dict(arch='s3', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s3}})),
    decode_head=dict(in_channels=2048),
    auxiliary_head=dict(in_channels=768, channels=192))
