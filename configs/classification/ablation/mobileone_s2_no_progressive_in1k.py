# Table 8: full resolution and augmentation from the first epoch.
_base_ = '../mobileone_s2_in1k.py'

default_hooks = dict(progressive=dict(stages=[dict(epoch=1, resolution=224, strength=1.)]))
