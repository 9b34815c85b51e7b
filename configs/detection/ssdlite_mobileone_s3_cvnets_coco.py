_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(arch='s3', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s3}})),
    neck=dict(in_channels=(768, 2048)))
