_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(arch='s4', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s4}})),
    neck=dict(in_channels=(896, 2048)))
