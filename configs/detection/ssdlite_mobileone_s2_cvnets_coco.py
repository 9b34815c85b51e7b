_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(
        arch='s2',
        init_cfg=dict(
            checkpoint='https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
            'mobileone_s2_unfused.pth.tar')),
    neck=dict(in_channels=(640, 2048)))
