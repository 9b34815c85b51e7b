"""Find what CUDA would refuse, wait for or launch, from calls on tensors without data."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mobileone_mm.backbones import MobileOneBlock

HALF = (torch.float16, torch.bfloat16)
# The host waits for their results.
SYNCS = ('_local_scalar_dense', 'nonzero', 'masked_select', 'equal', 'is_nonzero', '_unique2',
         'unique_consecutive', 'unique_dim')
# They need operands of one dtype, on CUDA as on CPUs, which fake tensors do not check.
ONE_DTYPE = ('convolution', 'convolution_backward', 'mm', 'bmm', 'addmm', 'baddbmm')
# These launch no kernel, nor do views.
FREE = ('empty', 'empty_like', 'new_empty', 'empty_strided', 'new_empty_strided', 'detach',
        'alias', '_unsafe_view', 'is_same_size', 'device')
BATCH = 5  # images: the first dimension distinguishes maps from weights


class CudaFault(AssertionError):
    """An operator call that CUDA refuses, or that the host waits for."""


class CudaPath(TorchDispatchMode):
    """Raise :class:`CudaFault`; count kernels by MobileOne block in ``kernels``.

    Args:
        model: The forward pass of a block counts from call to return, the backward pass from the
            gradient of its output to that of the previous block.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.kernels, self.block = Counter(), 'outside'
        self.blocks = {m: n for n, m in model.named_modules() if isinstance(m, MobileOneBlock)}
        for block, name in self.blocks.items():
            block.register_forward_pre_hook(lambda _, args, name=name: self._enter(name))
            block.register_forward_hook(lambda _, args, y, name=name: self._leave(name, y))

    def _enter(self, name):
        self.block = name

    def _leave(self, name, y):
        self.block = 'outside'
        if y.requires_grad:
            y.register_hook(lambda _: self._enter(name))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split('::')[1]
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        check_call(name, args, tensors)
        out = func(*args, **(kwargs or {}))
        outs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if name == '_to_copy' and outs[0].device != tensors[0].device:
            raise CudaFault(f'a copy from {tensors[0].device} to {outs[0].device}')
        if (name in ('_to_copy', 'copy_') and tensors[-1].dtype in HALF
                and outs[0].dtype not in HALF and len(outs[0]) == BATCH):
            raise CudaFault(f'a map in {tensors[-1].dtype} is copied to {outs[0].dtype}')
        view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if name not in FREE and not view:
            self.kernels[self.block] += 1
        return out


def check_call(name, args, tensors):
    """Check what is known before the call."""
    if name in SYNCS or name == 'index' and any(
            t is not None and t.dtype == torch.bool for t in args[1]):
        raise CudaFault(f'the host waits for {name}')
    if name in ONE_DTYPE and len({t.dtype for t in tensors}) > 1:
        raise CudaFault(f'{name} of {sorted({str(t.dtype) for t in tensors})}')
    if name == 'native_batch_norm_backward' and args[2] is None and args[9][1]:
        # torch 2.13, ATen/native/cuda/Normalization.cuh: weight_.options() of no tensor
        raise CudaFault('native_batch_norm_backward wants the gradient of a weight that is None')
