# Table 5: one convolution and no other branch, S0 69.6% (the paper's number).
_base_ = '../mobileone_s0_in1k.py'

model = dict(
    backbone=dict(num_conv_branches=1, use_scale_branch=False, use_skip_branch=False))
