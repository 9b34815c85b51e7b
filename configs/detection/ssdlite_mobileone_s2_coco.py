_base_ = './_base_/ssdlite_coco.py'

model = dict(
    backbone=dict(arch='s2', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s2}})),
    neck=dict(in_channels=(640, 2048), out_channels=(640, 2048, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(640, 2048, 512, 256, 256, 128)))
