# Table 8: constant weight decay (the paper: 0.5 points less).
_base_ = '../mobileone_s2_in1k.py'

default_hooks = dict(weight_decay=dict(min_ratio=1.))
