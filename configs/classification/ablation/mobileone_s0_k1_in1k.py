# Table 6: 1 convolutional branches, S0 70.9% (the paper's number).
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(num_conv_branches=1))
