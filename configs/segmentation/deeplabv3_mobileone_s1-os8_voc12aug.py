_base_ = './deeplabv3_mobileone_s1_voc12aug.py'

# Rates: those of cvnets' MobileViT recipe at output stride 8.
model = dict(backbone=dict(output_stride=8), decode_head=dict(dilations=(1, 12, 24, 36)))
