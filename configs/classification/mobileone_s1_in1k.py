# The paper's Table 9: 75.9% top-1 (not reproduced here).
_base_ = './_base_/mobileone_in1k.py'

model = dict(backbone=dict(arch='s1'), head=dict(in_channels=1280))
