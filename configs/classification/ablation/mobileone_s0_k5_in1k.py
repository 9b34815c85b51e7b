# Table 6: 5 convolutional branches, S0 71.1% (the paper's number).
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(num_conv_branches=5))
