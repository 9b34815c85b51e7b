# The paper's Table 9: 77.4% top-1 (not reproduced here).
_base_ = './_base_/progressive.py'

model = dict(backbone=dict(arch='s2'), head=dict(in_channels=2048))
