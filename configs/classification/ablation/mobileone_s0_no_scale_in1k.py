# Without the 1x1 branch.
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(use_scale_branch=False))
