# Table 6: 4 convolutional branches, S0 71.4% (the paper's number).
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(num_conv_branches=4))
