"""Decide which blocks and inputs the Triton kernels take."""

from typing import List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..block import BranchBlock
from ..maths.moments import ConvShape, patches
from ..norms import running_statistics, sync_groups, uses_batch
from .block import Fold, tensor_cores

__all__ = ['is_compiling', 'triton_forward']

# torch.compiler has it since torch 2.3.
is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling
# Dense convolutions run on patches if an output reads at most this many values, like the stem's.
MAX_PATCH = 64
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def triton_forward(block: BranchBlock, convs: List[nn.Conv2d], norms: List[_BatchNorm], x: Tensor,
                   relu: bool) -> Optional[Tensor]:
    """The sum of a block's branches, or ``None`` to compute them one by one.

    This takes depthwise 3x3 blocks, pointwise blocks, and dense blocks that read few values, such
    as the stem, as pointwise blocks on patches of the input. Without tensor cores, it takes the
    latter two only in float32, and pointwise blocks only with at least two convolutions, since the
    covariance of the input costs as much as one. All norms must be affine, and at least one must
    use the batch. Running statistics are updated as by each norm's own forward. Norms that are
    synchronized, differ in their settings or have no momentum take more and slower steps, which
    ``torch.compile`` cannot trace.

    Args:
        block: An unfolded block.
        convs: Convolutions of the branches, without bias.
        norms: Norms of the branches, the identity's last.
        x: (B, C_in, H, W), in the dtype to compute in.
        relu: Whether to apply ReLU to the sum.
    """
    fold = _fold(block, convs, norms, x, relu)
    simple = _are_alike(norms)
    traced = is_compiling() or type(x) not in (Tensor, nn.Parameter)  # for example fake tensors
    if fold is None or (traced and not simple) or not any(map(uses_batch, norms)):
        return None
    if not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous()
    weights = [conv.weight for conv in convs]
    if not fold.depthwise and block.conv_kwargs['kernel_size'] > 1:
        x, weights = _as_pointwise(block, weights, x)
    tensors = [*weights, *(norm.weight for norm in norms), *(norm.bias for norm in norms)]
    if not simple:
        from .synced import SyncedBranches
        return SyncedBranches.apply(x, fold, norms, *tensors)
    if traced:
        from .ops import branches_op
        y, stats = branches_op(x, fold, tensors)
    else:
        from .function import TritonBranches  # imports Triton, so not earlier
        y, stats = TritonBranches.apply(x, fold, *tensors)
    move_running(norms, stats)
    return y


def _as_pointwise(block: BranchBlock, weights: List[Tensor],
                  x: Tensor) -> Tuple[Tensor, List[Tensor]]:
    """The patches of x as channels, and the weights of the convolutions over them."""
    cfg = block.conv_kwargs
    size, padding = cfg['kernel_size'], cfg['kernel_size'] // 2
    shape = ConvShape(size, cfg['stride'], cfg['padding'], cfg['dilation'])
    if x.requires_grad or is_compiling():
        p = F.unfold(x, size, shape.dilation, shape.padding, shape.stride)
    else:
        p = patches(x, shape)  # fewer kernels
    # Kernels are compiled for multiples of 16 channels, and for other numbers.
    missing = -weights[0][0].numel() % 16
    p = F.pad(p.flatten(1, -2), (0, 0, 0, missing))
    p = p.view(*p.shape[:2], *(shape.out_size(length) for length in x.shape[2:]))
    if not x.is_contiguous():
        p = p.contiguous(memory_format=torch.channels_last)
    wide = [w if w.shape[2] == size else F.pad(w, [padding] * 4) for w in weights]
    return p, [F.pad(w.flatten(1), (0, missing)) for w in wide]


def _fold(block: BranchBlock, convs: List[nn.Conv2d], norms: List[_BatchNorm], x: Tensor,
          relu: bool) -> Optional[Fold]:
    """The block's branches for the kernels, if they support them."""
    cfg, k = block.conv_kwargs, len(block.rbr_conv)
    depthwise, size = cfg['groups'] > 1, cfg['kernel_size']
    scale, skip = block.rbr_scale is not None, block.rbr_skip is not None
    if x.dtype not in DTYPES or convs[0].weight.dtype not in DTYPES:
        return None
    if any(norm.weight is None for norm in norms):
        return None
    eps = norms[0].eps
    if depthwise:
        if size != 3:
            return None
        return Fold(k, scale, skip, True, cfg['stride'], cfg['dilation'], eps, relu)
    if size > 1:
        if skip or cfg['in_channels'] * size**2 > MAX_PATCH:
            return None
    elif cfg['stride'] > 1 or (k == 1 and not tensor_cores(x)):
        return None
    if x.dtype != torch.float32 and not tensor_cores(x):
        return None
    return Fold(len(convs), False, skip, False, 1, 1, eps, relu)


class _Settings(NamedTuple):
    eps: float
    momentum: Optional[float]
    tracked: bool
    dtype: torch.dtype


def _are_alike(norms: List[_BatchNorm]) -> bool:
    """Whether all norms are training, share eps and momentum, and are not synchronized."""
    return (norms[0].momentum is not None and not sync_groups(norms)
            and all(norm.training and _settings(norm) == _settings(norms[0]) for norm in norms))


def _settings(norm: _BatchNorm) -> _Settings:
    return _Settings(norm.eps, norm.momentum, norm.track_running_stats, norm.weight.dtype)


def move_running(norms: List[_BatchNorm], stats: Tensor) -> None:
    """Update running statistics like each norm's own forward.

    Args:
        norms: b norms with equal momentum.
        stats: (2, b, C): means and unbiased variances.
    """
    if not norms[0].track_running_stats:
        return
    counters = [norm.num_batches_tracked for norm in norms]
    torch._foreach_add_([counter for counter in counters if counter is not None], 1)
    means, variances = zip(*map(running_statistics, norms))
    running = [*means, *variances]
    batch = stats.to(running[0].dtype).flatten(0, 1).unbind()
    torch._foreach_lerp_(running, list(batch), norms[0].momentum or 0.)
