# The paper's Table 9: 71.4% top-1 (not reproduced here).
_base_ = './_base_/mobileone_in1k.py'
