# The paper's Table 9: 78.1% top-1 (not reproduced here).
_base_ = './_base_/progressive.py'

model = dict(backbone=dict(arch='s3'), head=dict(in_channels=2048))
