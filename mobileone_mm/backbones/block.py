"""The MobileOne block: parallel linear branches that fold into one convolution (paper, Fig. 3)."""

from collections import OrderedDict
from typing import Any, Dict, Iterable, Iterator, Optional, cast

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..branches import analytic_forward, check_branch_engine
from ..branches.subsampled_conv import SubsampledPointwiseConv2d
from ..folding import (
    KernelBias,
    bn_scale_shift,
    check_precision,
    fold_conv_bn,
    identity_kernel,
    pad_kernel,
    sum_branches,
)
from .squeeze_excite import SqueezeExcite


class MobileOneBlock(nn.Module):
    """``act(se(sum of branches))`` or, once folded, ``act(se(conv))`` with equal results.

    The branches are k convolutions of the block's own kernel (``rbr_conv``), a 1x1 convolution
    (``rbr_scale``, only where the kernel is larger than 1x1) and the identity (``rbr_skip``),
    each followed by a batch norm. Parameters have the names of the released weights.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: K, odd; the padding is ``dilation * (K - 1) / 2``.
        stride: Defaults to 1.
        dilation: Defaults to 1.
        groups: Defaults to 1.
        num_conv_branches: The paper's k, at least 1. Defaults to 1.
        use_scale_branch: Defaults to True.
        use_skip_branch: ``None``, the default, adds it wherever the shapes allow.
        use_se: Squeeze-and-excitation on the sum. Defaults to False.
        norm_cfg: Defaults to ``dict(type='BN')``.
        act_cfg: ``None`` means no activation. Defaults to ``dict(type='ReLU')``.
        deploy: Build the folded form. Defaults to False.
        branch_engine: How the branches are computed; results are the same. ``'textbook'`` runs them
            one by one, ``'analytic'`` folds them by the batch's statistics or fuses them
            (:mod:`mobileone_mm.branches`), and ``'auto'``, the default, picks the faster. On CUDA
            ``'analytic'`` uses Triton kernels if Triton is installed, and ``'auto'`` means
            ``'textbook'``. On other devices, and in ``torch.compile`` on a CPU, all three mean
            ``'textbook'``.

    Raises:
        ValueError: ``kernel_size`` is even, the skip branch is requested but input and output
            differ in shape, or ``num_conv_branches`` or a number of channels is less than 1.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int,
                 *,
                 stride: int = 1,
                 dilation: int = 1,
                 groups: int = 1,
                 num_conv_branches: int = 1,
                 use_scale_branch: bool = True,
                 use_skip_branch: Optional[bool] = None,
                 use_se: bool = False,
                 norm_cfg: Optional[dict] = None,
                 act_cfg: Optional[dict] = dict(type='ReLU'),
                 deploy: bool = False,
                 branch_engine: str = 'auto') -> None:
        super().__init__()
        self.branch_engine = check_branch_engine(branch_engine)
        if min(in_channels, out_channels) < 1:
            raise ValueError('in_channels and out_channels must be at least 1, got '
                             f'{in_channels} and {out_channels}')
        if kernel_size % 2 != 1:
            raise ValueError(f'kernel_size must be odd, got {kernel_size}')
        if num_conv_branches < 1:
            raise ValueError(f'num_conv_branches must be at least 1, got {num_conv_branches}')
        same_shape = in_channels == out_channels and stride == 1
        if use_skip_branch is None:
            use_skip_branch = same_shape
        if use_skip_branch and not same_shape:
            raise ValueError('the skip branch needs equal channels and stride 1, got '
                             f'{in_channels} -> {out_channels} with stride {stride}')
        self.conv_kwargs: Dict[str, Any] = dict(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups)
        self.se = SqueezeExcite(out_channels) if use_se else nn.Identity()
        self.activation = build_activation_layer(act_cfg) if act_cfg else nn.Identity()
        if deploy:
            self.reparam_conv = nn.Conv2d(**self.conv_kwargs)
            return

        norm_cfg = norm_cfg or dict(type='BN')
        self.rbr_conv = nn.ModuleList(
            ConvBN(nn.Conv2d(**self.conv_kwargs, bias=False), norm_cfg)
            for _ in range(num_conv_branches))
        self.rbr_scale: Optional[ConvBN] = None
        if use_scale_branch and kernel_size > 1:
            self.rbr_scale = ConvBN(
                SubsampledPointwiseConv2d(
                    in_channels, out_channels, 1, stride, groups=groups, bias=False), norm_cfg)
        self.rbr_skip: Optional[_BatchNorm] = None
        if use_skip_branch:
            self.rbr_skip = build_norm_layer(norm_cfg, in_channels)[1]

    @property
    def deploy(self) -> bool:
        """Whether the block is folded."""
        return hasattr(self, 'reparam_conv')

    def branches(self) -> Iterator[nn.Module]:
        """The linear branches that are summed; none once folded."""
        if self.deploy:
            return
        yield from self.rbr_conv
        if self.rbr_scale is not None:
            yield self.rbr_scale
        if self.rbr_skip is not None:
            yield self.rbr_skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.deploy:
            return self.activation(self.se(self.reparam_conv(x)))
        if self.branch_engine != 'textbook':
            y = analytic_forward(self, x)
            if y is not None:
                return y
        y, *others = (branch(x) for branch in self.branches())
        for other in others:
            y = y + other
        return self.activation(self.se(y))

    def equivalent_kernel_bias(self, dtype: torch.dtype = torch.float64) -> KernelBias:
        """The convolution that equals the branches in eval mode; differentiable and pure.

        Args:
            dtype: Data type to compute in. Defaults to float64.

        Returns:
            Kernel (C_out, C_in / groups, K, K) and bias (C_out,), in ``dtype``.

        Raises:
            TypeError: A branch's norm is not a batch norm.
            ValueError: A batch norm keeps no running statistics.
        """
        if self.deploy:
            conv = self.reparam_conv
            return KernelBias(conv.weight.to(dtype), cast(Tensor, conv.bias).to(dtype))
        size = self.conv_kwargs['kernel_size']
        folded = [fold_conv_bn(branch.conv, branch.bn, dtype)
                  for branch in cast(Iterable[ConvBN], self.rbr_conv)]
        if self.rbr_scale is not None:
            kernel, bias = fold_conv_bn(self.rbr_scale.conv, self.rbr_scale.bn, dtype)
            folded.append(KernelBias(pad_kernel(kernel, size), bias))
        if self.rbr_skip is not None:
            scale, shift = bn_scale_shift(self.rbr_skip, dtype)
            identity = identity_kernel(scale.numel(), self.conv_kwargs['groups'], size, dtype,
                                       scale.device)
            folded.append(KernelBias(identity * scale.view(-1, 1, 1, 1), shift))
        return sum_branches(folded)

    def switch_to_deploy(self) -> None:
        """Replace the branches, in place, with the convolution that equals them in eval mode.

        Folds in float64 and casts at the end. Keeps mode, device, dtype and ``requires_grad``. Does
        nothing if the block is already folded.

        Raises:
            ValueError: The block is in half precision: fold in float32 first, cast afterwards.
            TypeError, ValueError: As in :meth:`equivalent_kernel_bias`.
        """
        if self.deploy:
            return
        check_precision(self)
        like = cast(ConvBN, self.rbr_conv[0]).conv.weight
        with torch.no_grad():
            kernel, bias = self.equivalent_kernel_bias()
            # skip_init draws no random numbers: folding must not change a training run.
            conv = cast(nn.Conv2d, nn.utils.skip_init(
                nn.Conv2d, **self.conv_kwargs, device=like.device, dtype=like.dtype))
            conv.weight.copy_(kernel)
            cast(Tensor, conv.bias).copy_(bias)
        trainable = any(p.requires_grad for b in self.branches() for p in b.parameters())
        conv.requires_grad_(trainable).train(self.training)
        for name in ('rbr_conv', 'rbr_scale', 'rbr_skip'):
            delattr(self, name)
        self.reparam_conv = conv


class ConvBN(nn.Sequential):
    """A convolution, and the norm of ``norm_cfg``."""

    conv: nn.Conv2d
    bn: _BatchNorm

    def __init__(self, conv: nn.Conv2d, norm_cfg: dict) -> None:
        norm = build_norm_layer(norm_cfg, conv.out_channels)[1]
        super().__init__(OrderedDict(conv=conv, bn=norm))


