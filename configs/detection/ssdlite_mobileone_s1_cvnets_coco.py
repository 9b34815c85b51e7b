_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(arch='s1', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s1}})),
    neck=dict(in_channels=(512, 1280)))
