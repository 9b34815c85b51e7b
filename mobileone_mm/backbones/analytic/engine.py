"""Choose, per block and call, how the sum of the branches is computed."""

from typing import List, Optional, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from ...reparam.moments import ConvShape, accumulation_dtype
from ..subsampled_conv import SubsampledPointwiseConv2d
from .folded_conv import BranchPlan, FoldedConv
from .fused_branches import FusedBranches
from .norms import is_plain_norm, sync_groups, uses_batch

__all__ = ['BRANCH_ENGINES', 'analytic_forward', 'check_branch_engine']

BRANCH_ENGINES = ('auto', 'analytic', 'textbook')
# Beyond this many patch elements a position, the Gram matrix costs more than k = 4 convolutions.
MAX_TAPS_PER_POSITION = 0.875
FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PLAIN_CONVS = (nn.Conv2d.forward, SubsampledPointwiseConv2d.forward)
HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def check_branch_engine(name: str) -> str:
    """Return ``name``.

    Raises:
        ValueError: It names no engine.
    """
    if name not in BRANCH_ENGINES:
        raise ValueError(f'branch_engine must be one of {list(BRANCH_ENGINES)}, got {name!r}')
    return name


def analytic_forward(block: nn.Module, x: Tensor) -> Optional[Tensor]:
    """The output of a :class:`~mobileone_mm.backbones.MobileOneBlock`, if this engine applies.

    Args:
        block: Not folded, its ``branch_engine`` ``'auto'`` or ``'analytic'``.
        x: (B, C_in, H, W).

    Returns:
        The same numbers as from the branches one by one, up to rounding; ``None`` where those are
        to be used: see :func:`_applies`, and with ``'auto'`` also where they are faster.
    """
    if not _applies(block, x):
        return None
    if not any(uses_batch(norm) for norm in _norms(block)):
        return block.activation(block.se(_running_fold(block, x)))
    function = _choose(block, x)
    if function is None:
        return None
    y = _apply(function, block, x)
    return y if _fuses_relu(block) else block.activation(block.se(y))


def _norms(block: nn.Module) -> List[nn.Module]:
    return [branch.bn if isinstance(branch, nn.Sequential) else branch
            for branch in block.branches()]


def _convs(block: nn.Module) -> List[nn.Conv2d]:
    return [branch.conv for branch in block.branches() if isinstance(branch, nn.Sequential)]


def _shape(block: nn.Module) -> ConvShape:
    return ConvShape(*(block.conv_kwargs[key]
                       for key in ('kernel_size', 'stride', 'padding', 'dilation')))


def _is_watched(module: nn.Module) -> bool:
    """Whether someone hooked into this module or replaced its forward."""
    return 'forward' in vars(module) or any(getattr(module, name) for name in HOOKS)


def _fuses_relu(block: nn.Module) -> bool:
    """Whether ReLU follows the sum directly."""
    return type(block.activation) is nn.ReLU and isinstance(block.se, nn.Identity)


def _applies(block: nn.Module, x: Tensor) -> bool:
    """Whether the branches are what the mathematics assumes, and nobody watches them.

    Not so, and left to the branches themselves: other norms than batch norm, wrapped or replaced
    convolutions, grouped ones that are not depthwise, hooks on submodules, mixed dtypes, tracing,
    ``torch.func`` transforms and forward-mode differentiation; and all that they would refuse, so
    that it is they who raise.
    """
    convs, norms = _convs(block), _norms(block)
    if torch.jit.is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    if not block.training and torch.compiler.is_compiling():
        return False
    if any(_is_watched(module) for module in block.modules() if module is not block):
        return False
    if not convs or not all(type(conv).forward in PLAIN_CONVS and conv.bias is None
                            for conv in convs):
        return False
    if not all(is_plain_norm(norm) for norm in norms) or len(sync_groups(norms)) > 1:
        return False
    channels, groups = convs[0].in_channels, convs[0].groups
    if groups not in (1, channels) or convs[0].out_channels < groups:
        return False
    if x.is_meta or x.dim() != 4 or x.shape[1] != channels or x.dtype not in FLOAT_DTYPES:
        return False
    expected = convs[0].weight.dtype
    if not torch.is_autocast_enabled(x.device.type) and expected != x.dtype:
        return False
    return all(p.dtype == expected for conv in convs for p in conv.parameters())


def _running_fold(block: nn.Module, x: Tensor) -> Tensor:
    """All norms frozen: one convolution, differentiable through torch's own autograd."""
    kernel, bias = block.equivalent_kernel_bias(accumulation_dtype(x.dtype))
    cfg = block.conv_kwargs
    return F.conv2d(x, kernel.to(x.dtype), bias.to(x.dtype), cfg['stride'], cfg['padding'],
                    cfg['dilation'], cfg['groups'])


def _choose(block: nn.Module, x: Tensor) -> Optional[Type[Function]]:
    """Which function computes this block on this input, ``None`` for its branches one by one."""
    shape, depthwise = _shape(block), block.conv_kwargs['groups'] > 1
    count = x.shape[0] * shape.out_size(x.shape[2]) * shape.out_size(x.shape[3])
    if count < 2:
        return None
    pointwise = shape.kernel_size == 1
    if len(block.rbr_conv) == 1 and (depthwise or pointwise):
        return FusedBranches
    taps = x.shape[1] * shape.kernel_size**2
    if block.branch_engine == 'auto' and not depthwise and taps > MAX_TAPS_PER_POSITION * count:
        return None
    return FoldedConv


@torch.compiler.disable
def _apply(function: Type[Function], block: nn.Module, x: Tensor) -> Tensor:
    """Call ``function``; ``torch.compile`` breaks its graph here instead of tracing into it."""
    convs, norms = _convs(block), _norms(block)
    plan = BranchPlan(
        shape=_shape(block),
        depthwise=block.conv_kwargs['groups'] > 1,
        has_scale=block.rbr_scale is not None,
        has_skip=block.rbr_skip is not None,
        norms=norms,
        relu=_fuses_relu(block))
    tensors = ([conv.weight for conv in convs] + [norm.weight for norm in norms]
               + [norm.bias for norm in norms])
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous()
    with torch.autocast(device, enabled=False):
        return function.apply(x, plan, *tensors)
