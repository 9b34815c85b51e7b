_base_ = './_base_/deeplabv3_ade20k.py'

# use_se=False: the paper's S4 in Table 11b 'was trained without Squeeze-Excite layers'. Apple
# published no such ImageNet weights. Those below load without their gates, so training does
# not start from the pre-trained features.
model = dict(
    backbone=dict(
        arch='s4',
        use_se=False,
        init_cfg=dict(checkpoint={{_base_.apple_checkpoints.s4}})),
    decode_head=dict(in_channels=2048),
    auxiliary_head=dict(in_channels=896, channels=224))
