_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(
        arch='s4',
        init_cfg=dict(
            checkpoint='https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
            'mobileone_s4_unfused.pth.tar')),
    neck=dict(in_channels=(896, 2048)))
