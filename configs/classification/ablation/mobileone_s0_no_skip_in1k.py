# Without the skip branch.
_base_ = '../mobileone_s0_in1k.py'

model = dict(backbone=dict(use_skip_branch=False))
