# The paper reports no S0 in Table 11a.
_base_ = './_base_/ssdlite_coco.py'

model = dict(
    backbone=dict(
        arch='s0',
        init_cfg=dict(
            checkpoint='https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
            'mobileone_s0_unfused.pth.tar')),
    neck=dict(in_channels=(256, 1024), out_channels=(256, 1024, 512, 256, 256, 128)),
    bbox_head=dict(in_channels=(256, 1024, 512, 256, 256, 128)))
