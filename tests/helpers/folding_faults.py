"""Plant a fault in each function that folds a block."""

import torch

from mobileone_mm.backbones import block
from mobileone_mm.folding import KernelBias


def _replace(monkeypatch, owner, name, change):
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: change(original(*args, **kwargs)))


def halve_the_kernel(monkeypatch):
    _replace(monkeypatch, block.MobileOneBlock, 'equivalent_kernel_bias',
             lambda folded: KernelBias(folded.kernel / 2, folded.bias))


def zero_the_bias(monkeypatch):
    _replace(monkeypatch, block, 'fold_conv_bn',
             lambda folded: KernelBias(folded.kernel, torch.zeros_like(folded.bias)))


def drop_a_branch(monkeypatch):
    intact = block.sum_branches
    monkeypatch.setattr(block, 'sum_branches', lambda branches: intact(branches[:-1] or branches))


def shift_the_scale_branch(monkeypatch):
    """The kernel beside the center tap."""
    _replace(monkeypatch, block, 'pad_kernel', lambda kernel: kernel.roll(1, -1))


def misplace_the_skip(monkeypatch):
    """The identity on the next input of the group or, for one input, on the next tap."""
    _replace(monkeypatch, block, 'identity_kernel',
             lambda kernel: kernel.roll(1, 1 if kernel.shape[1] > 1 else -1))


def lose_a_norms_shift(monkeypatch):
    _replace(monkeypatch, block, 'bn_scale_shift',
             lambda affine: (affine[0], torch.zeros_like(affine[1])))


FAULTS = (halve_the_kernel, zero_the_bias, drop_a_branch, shift_the_scale_branch, misplace_the_skip,
          lose_a_norms_shift)
