_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(arch='s2', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s2}})),
    neck=dict(in_channels=(640, 2048)))
