"""Fold MobileOne: the mathematics, the models, the files, and the check."""

from .maths import (
    KernelBias,
    bn_scale_shift,
    check_precision,
    fold_conv_bn,
    identity_kernel,
    pad_kernel,
    sum_branches,
)

__all__ = [
    'KernelBias', 'bn_scale_shift', 'check_precision', 'fold_conv_bn', 'identity_kernel',
    'pad_kernel', 'sum_branches',
]
