_base_ = './_base_/ssdlite_cvnets_coco.py'

model = dict(
    backbone=dict(
        arch='s3',
        init_cfg=dict(
            checkpoint='https://docs-assets.developer.apple.com/ml-research/datasets/mobileone/'
            'mobileone_s3_unfused.pth.tar')),
    neck=dict(in_channels=(768, 2048)))
