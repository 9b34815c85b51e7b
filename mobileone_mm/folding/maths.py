"""Structural reparameterization: fold linear branches into one convolution (paper, section 3.2).

Pure, differentiable functions on tensors; torch only. They compute in the dtype they are given:
callers pass float64 and cast the result.

Shapes, for ``C_out`` and ``C_in`` channels, ``G`` groups and kernel size ``K``::

    kernel  (C_out, C_in / G, K, K)
    bias    (C_out,)
"""

from typing import Iterable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    'KernelBias', 'bn_scale_shift', 'check_precision', 'fold_conv_bn', 'pad_kernel',
    'identity_kernel', 'sum_branches',
]


class KernelBias(NamedTuple):
    """The kernel and the bias of one convolution."""

    kernel: Tensor
    bias: Tensor


def check_precision(module: nn.Module) -> None:
    """Refuse to fold in half precision, before anything changes.

    Raises:
        ValueError: A parameter of ``module``, which the message names, is float16 or bfloat16.
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(f'{name} is in {parameter.dtype}; folding there loses accuracy: '
                             'call .float() first, fold, then cast the folded model')


def bn_scale_shift(bn: _BatchNorm, dtype: torch.dtype = torch.float64) -> Tuple[Tensor, Tensor]:
    """The affine function of each channel that a batch norm applies in eval mode.

    ``BN(y) = scale * y + shift`` with ``scale = gamma / sqrt(var + eps)`` and
    ``shift = beta - mean * scale``; a norm without affine has gamma 1 and beta 0.

    Args:
        bn: Any batch norm, SyncBatchNorm included.
        dtype: Data type to compute in. Defaults to float64.

    Returns:
        ``scale`` and ``shift``, each (C,).

    Raises:
        TypeError: ``bn`` is not a batch norm.
        ValueError: It keeps no running statistics, so eval mode is not affine.
    """
    if not isinstance(bn, _BatchNorm):
        raise TypeError(f'only batch norms fold into a convolution, got {type(bn).__name__}; '
                        "use norm_cfg=dict(type='BN') or dict(type='SyncBN')")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError('a batch norm with track_running_stats=False normalizes by each batch '
                         'and cannot be folded')
    scale = torch.rsqrt(bn.running_var.to(dtype) + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.to(dtype)
    shift = -bn.running_mean.to(dtype) * scale
    if bn.bias is not None:
        shift = shift + bn.bias.to(dtype)
    return scale, shift


def fold_conv_bn(conv: nn.Conv2d, bn: _BatchNorm, dtype: torch.dtype = torch.float64) -> KernelBias:
    """Fold ``BN(conv(x))`` into one convolution.

    Args:
        conv: A convolution, with or without bias.
        bn: The batch norm after it, with ``conv.out_channels`` channels.
        dtype: Data type to compute in. Defaults to float64.

    Returns:
        Kernel (C_out, C_in / G, K, K) and bias (C_out,) in ``dtype``.

    Examples:
        >>> conv, bn = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        >>> kernel, bias = fold_conv_bn(conv, bn)
        >>> kernel.shape, bias.shape
        (torch.Size([8, 3, 3, 3]), torch.Size([8]))
    """
    scale, shift = bn_scale_shift(bn, dtype)
    if conv.bias is not None:
        shift = shift + conv.bias.to(dtype) * scale
    return KernelBias(conv.weight.to(dtype) * scale.view(-1, 1, 1, 1), shift)


def pad_kernel(kernel: Tensor, kernel_size: int) -> Tensor:
    """Put a 1x1 kernel at the center of a ``kernel_size`` x ``kernel_size`` one.

    For any stride and dilation, both convolutions agree if the larger one has the padding
    ``dilation * (kernel_size - 1) / 2``.

    Args:
        kernel: (C_out, C_in / G, 1, 1).
        kernel_size: K, odd.

    Returns:
        (C_out, C_in / G, K, K).

    Raises:
        ValueError: ``kernel`` is not 1x1, or ``kernel_size`` is even and so has no center.
    """
    if tuple(kernel.shape[2:]) != (1, 1):
        raise ValueError(f'expected a 1x1 kernel, got {tuple(kernel.shape)}')
    if kernel_size % 2 != 1:
        raise ValueError(f'kernel_size must be odd to have a center tap, got {kernel_size}')
    return nn.functional.pad(kernel, [kernel_size // 2] * 4)


def identity_kernel(channels: int,
                    groups: int,
                    kernel_size: int,
                    dtype: torch.dtype = torch.float64,
                    device: Optional[torch.device] = None) -> Tensor:
    """The kernel of the convolution that returns its input.

    Args:
        channels: C_in = C_out.
        groups: G, a divisor of ``channels``.
        kernel_size: K, odd.
        dtype: Data type of the result. Defaults to float64.
        device: Device of the result.

    Returns:
        (C, C / G, K, K) with a 1 at the center tap of each channel's own input.

    Raises:
        ValueError: ``groups`` does not divide ``channels``, or ``kernel_size`` is even.
    """
    if channels % groups:
        raise ValueError(f'groups must divide channels, got channels={channels}, groups={groups}')
    width = channels // groups
    own_input = torch.arange(channels, device=device) % width
    kernel = (own_input.unsqueeze(1) == torch.arange(width, device=device)).to(dtype)
    return pad_kernel(kernel.view(channels, width, 1, 1), kernel_size)


def sum_branches(branches: Iterable[KernelBias]) -> KernelBias:
    """Add parallel convolutions of the same shape, stride, padding and dilation.

    Raises:
        ValueError: There are no branches.
    """
    branches = list(branches)
    if not branches:
        raise ValueError('there is no branch to fold')
    kernel, bias = branches[0]
    for branch in branches[1:]:
        kernel, bias = kernel + branch.kernel, bias + branch.bias
    return KernelBias(kernel, bias)
