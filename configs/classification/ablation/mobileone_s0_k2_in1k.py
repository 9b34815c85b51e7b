# Table 6: 2 convolutional branches, S0 70.7% (the paper's number).
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(num_conv_branches=2))
