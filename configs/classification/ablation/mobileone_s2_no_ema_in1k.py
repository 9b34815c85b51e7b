# Table 8: without averaged weights.
_base_ = '../mobileone_s2_in1k.py'

custom_hooks = []
