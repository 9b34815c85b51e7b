"""Choose how to compute the sum of the branches, for each block and call."""

from typing import List, NamedTuple, Optional, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from .autocast import autocast_dtype
from .block import BranchBlock
from .compiled import has_cores_to_itself, usable
from .maths.moments import ConvShape, accumulation_dtype
from .norms import is_plain_norm, sync_groups, uses_batch
from .plain.folded_conv import FoldedConv
from .plain.fused_branches import FusedBranches
from .plan import BranchPlan
from .subsampled_conv import SubsampledPointwiseConv2d
from .triton import available
from .triton.choose import is_compiling, triton_forward

__all__ = ['BRANCH_ENGINES', 'analytic_forward', 'check_branch_engine']

BRANCH_ENGINES = ('auto', 'analytic', 'textbook')
# Devices on which torch's passes pay off. A GPU would wait for many small operators, and for
# results that the host needs.
DEVICES = ('cpu', )
# Whether 'auto' means the Triton kernels on CUDA; 'analytic' always does.
FAST_ON_CUDA = False
# Beyond this many patch elements per position, the Gram matrix costs more than k = 4 convolutions.
MAX_TAPS_PER_POSITION = 0.875
# From this many outputs per map, moving less data makes up for convolutions slower than torch's.
LARGE_MAP = (24 * 24, 48 * 48)  # strided convolutions have less to gain
FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PLAIN_CONVS = (nn.Conv2d.forward, SubsampledPointwiseConv2d.forward)
HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


def check_branch_engine(name: str) -> str:
    """Return ``name``.

    Raises:
        ValueError: It names no branch engine.
    """
    if name not in BRANCH_ENGINES:
        raise ValueError(f'branch_engine must be one of {list(BRANCH_ENGINES)}, got {name!r}')
    return name


class _Branches(NamedTuple):
    """A block's convolutions, and its norms in the same order, the identity's last."""

    convs: List[nn.Conv2d]
    norms: List[_BatchNorm]


def analytic_forward(block: BranchBlock, x: Tensor) -> Optional[Tensor]:
    """The output of a :class:`~mobileone_mm.backbones.MobileOneBlock`, if this can compute it.

    Args:
        block: An unfolded block whose ``branch_engine`` is ``'auto'`` or ``'analytic'``.
        x: (B, C_in, H, W).

    Returns:
        The same numbers as from the branches one by one, up to rounding; ``None`` to compute those
        instead. :func:`_collect` and :func:`_accepts` decide, and with ``'auto'`` whichever is
        faster; on CUDA with Triton, :func:`.triton.choose.triton_forward` does. On other devices
        than CPUs, and while ``torch.compile`` traces for a CPU, it is always ``None``.
    """
    if _uses_triton(block, x):
        return _triton_sum(block, x)
    if x.device.type not in DEVICES or is_compiling():
        return None
    branches = _collect(block)
    if branches is None or not _accepts(branches, x):
        return None
    if not any(uses_batch(norm) for norm in branches.norms):
        return block.activation(block.se(_running_fold(block, x)))
    function = _choose(block, x, branches)
    if function is None:
        return None
    relu = _ends_in_relu(block)
    y = _apply(function, block, branches, x, relu)
    return y if relu else block.activation(block.se(y))


def _ends_in_relu(block: BranchBlock) -> bool:
    """Whether only a ReLU follows the sum."""
    return type(block.activation) is nn.ReLU and isinstance(block.se, nn.Identity)


def _uses_triton(block: BranchBlock, x: Tensor) -> bool:
    """Whether this block's branches are left to Triton, or else run one by one."""
    return (x.is_cuda and (FAST_ON_CUDA or block.branch_engine == 'analytic') and available())


def _triton_sum(block: BranchBlock, x: Tensor) -> Optional[Tensor]:
    """:func:`analytic_forward` with Triton's kernels; ``torch.compile`` traces operators."""
    branches = _collect(block)
    if branches is None or not _accepts(branches, x):
        return None
    shape, relu = _shape(block), _ends_in_relu(block)
    if x.shape[0] * shape.out_size(x.shape[2]) * shape.out_size(x.shape[3]) < 2:
        return None
    autocast = autocast_dtype(x.device.type)
    with torch.autocast(x.device.type, enabled=False):
        y = triton_forward(block, *branches, x if autocast is None else x.to(autocast), relu)
    return y if relu or y is None else block.activation(block.se(y))


def _collect(block: BranchBlock) -> Optional[_Branches]:
    """Collect the branches, if they fit the mathematics and have no hooks.

    ``None`` for norms other than batch norm, wrapped or replaced convolutions, grouped ones that
    are not depthwise, hooks on submodules, and norms synchronized over different processes.
    """
    found = _Branches([], [])
    for branch in block.branches():
        parts: List[nn.Module] = [branch]
        if isinstance(branch, nn.Sequential):
            conv, norm = branch
            parts += [conv, norm]
            if type(conv).forward not in PLAIN_CONVS or conv.bias is not None:
                return None
            found.convs.append(conv)
        else:
            norm = branch
        if not is_plain_norm(norm) or any(_is_watched(part) for part in parts):
            return None
        found.norms.append(norm)
    if not found.convs or any(_is_watched(m) for m in (block.rbr_conv, block.activation, block.se)):
        return None
    cfg = block.conv_kwargs
    grouped = cfg['groups'] > 1 and not cfg['groups'] == cfg['in_channels'] == cfg['out_channels']
    return None if grouped or len(sync_groups(found.norms)) > 1 else found


def _is_watched(module: nn.Module) -> bool:
    """Whether a module has hooks or a replaced forward."""
    own = module.__dict__  # not vars(): torch 2.8 cannot trace that
    return 'forward' in own or any(own[name] for name in HOOKS)


def _accepts(branches: _Branches, x: Tensor) -> bool:
    """Whether an input is supported.

    False for inputs that the branches reject, so that the branches raise the error, and under
    TorchScript tracing, ``torch.func`` transforms and forward-mode differentiation.
    """
    # While Dynamo traces, torch.func's stack is not empty.
    transformed = (not is_compiling()
                   and torch._C._functorch.peek_interpreter_stack() is not None)
    if (torch.jit.is_tracing() or transformed
            or torch.autograd.forward_ad._current_level >= 0):
        return False
    conv = branches.convs[0]
    if x.dim() != 4 or x.shape[1] != conv.in_channels or x.dtype not in FLOAT_DTYPES:
        return False
    expected = conv.weight.dtype
    if x.dtype != expected and autocast_dtype(x.device.type) is None:
        return False
    return all(conv.weight.dtype == expected for conv in branches.convs)


def _running_fold(block: BranchBlock, x: Tensor) -> Tensor:
    """With all norms frozen: one convolution, differentiated by torch's own autograd."""
    kernel, bias = block.equivalent_kernel_bias(accumulation_dtype(x.dtype))
    cfg = block.conv_kwargs
    return F.conv2d(x, kernel.to(x.dtype), bias.to(x.dtype), cfg['stride'], cfg['padding'],
                    cfg['dilation'], cfg['groups'])


def _shape(block: BranchBlock) -> ConvShape:
    cfg = block.conv_kwargs
    return ConvShape(cfg['kernel_size'], cfg['stride'], cfg['padding'], cfg['dilation'])


def _choose(block: BranchBlock, x: Tensor, branches: _Branches) -> Optional[Type[Function]]:
    """The function for this block and input; ``None`` for its branches one by one."""
    shape, depthwise = _shape(block), block.conv_kwargs['groups'] > 1
    positions = shape.out_size(x.shape[2]) * shape.out_size(x.shape[3])
    if x.shape[0] * positions < 2:
        return None
    single = len(block.rbr_conv) == 1 and (depthwise or shape.kernel_size == 1)
    taps = x.shape[1] * shape.kernel_size**2
    if (block.branch_engine == 'auto' and not single and not depthwise
            and taps > MAX_TAPS_PER_POSITION * x.shape[0] * positions):
        return None
    if usable(x) and autocast_dtype() is None and not sync_groups(branches.norms):
        function = _choose_compiled(shape, depthwise, single, positions)
        if function is not None:
            return function
    return FusedBranches if single else FoldedConv


def _choose_compiled(shape: ConvShape, depthwise: bool, single: bool,
                     positions: int) -> Optional[Type[Function]]:
    """The function with compiled passes; ``None`` if there is none or it is slower."""
    if single and not has_cores_to_itself():
        return None  # for a single convolution, torch needs nearly as few passes, on all cores
    if depthwise and shape.kernel_size == 3 and shape.stride <= 2 and (
            not single or positions >= LARGE_MAP[shape.stride > 1]):
        from .compiled.functions import CompiledDepthwise
        return CompiledDepthwise
    if single:
        from .compiled.functions import CompiledTaps
        return CompiledTaps
    if shape == ConvShape():
        from .compiled.dense_functions import CompiledDense
        return CompiledDense
    return None


def _apply(function: Type[Function], block: BranchBlock, branches: _Branches, x: Tensor,
           relu: bool) -> Tensor:
    convs, norms = branches
    plan = BranchPlan(
        shape=_shape(block),
        depthwise=block.conv_kwargs['groups'] > 1,
        has_scale=block.rbr_scale is not None,
        has_skip=block.rbr_skip is not None,
        norms=norms,
        relu=relu)
    tensors = ([conv.weight for conv in convs] + [norm.weight for norm in norms]
               + [norm.bias for norm in norms])
    autocast = autocast_dtype()
    if autocast is not None:
        x = x.to(autocast)
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous()
    with torch.autocast('cpu', enabled=False):
        return function.apply(x, plan, *tensors)
