# The paper reports no S0 in Table 11a.
_base_ = './_base_/ssdlite_coco.py'

model = dict(
    backbone=dict(arch='s0', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s0}})),
    neck=dict(in_channels=(256, 1024), out_channels=(256, 1024, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(256, 1024, 512, 256, 256, 128)))
