# With squeeze-and-excitation: Table 11a's S4 has no dagger, unlike 11b's.
_base_ = './_base_/ssdlite_coco.py'

model = dict(
    backbone=dict(arch='s4', init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s4}})),
    neck=dict(in_channels=(896, 2048), out_channels=(896, 2048, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(896, 2048, 512, 256, 256, 128)))
