"""Unfold a folded file for fine-tuning: find branches whose sum is the folded convolution."""

from typing import Dict, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..folding import KernelBias, bn_scale_shift
from .block import ConvBN, MobileOneBlock

__all__ = ['match_batch_statistics', 'unfold']


@torch.no_grad()
def unfold(backbone: nn.Module, folded: Dict[str, Tensor]) -> None:
    """Set an unfolded backbone to the outputs of a folded state dict, in eval mode.

    The first convolution of each block becomes the folded kernel minus the other branches, which
    keep their random initialization. Train mode normalizes by the batch: for equal outputs there
    too, call :func:`match_batch_statistics` on some images, or train with ``norm_eval=True``.

    Args:
        backbone: An unfolded, freshly initialized backbone.
        folded: State dict of the folded backbone, with Apple's names.
    """
    for name, block in backbone.named_modules():
        if isinstance(block, MobileOneBlock):
            _unfold_block(block, KernelBias(folded[f'{name}.reparam_conv.weight'].double(),
                                            folded[f'{name}.reparam_conv.bias'].double()))
    backbone.load_state_dict({k: v for k, v in folded.items() if '.reparam_conv.' not in k},
                             strict=False)


def _unfold_block(block: MobileOneBlock, target: KernelBias) -> None:
    kernel, bias = block.equivalent_kernel_bias()
    first = cast(ConvBN, block.rbr_conv[0])
    scale = bn_scale_shift(first.bn)[0].view(-1, 1, 1, 1)
    first.conv.weight.add_(((target.kernel - kernel) / scale).to(first.conv.weight))
    first.bn.bias.add_((target.bias - bias).to(first.bn.bias))


@torch.no_grad()
def match_batch_statistics(module: nn.Module, *inputs: Tensor) -> None:
    """Make train mode compute what eval mode computes on these inputs, norm by norm.

    Each batch norm takes the batch's statistics as its running statistics, and changes gamma and
    beta to keep its function in eval mode. Afterwards both modes agree on these inputs.

    Args:
        module: A module with affine batch norms, which is changed in place.
        *inputs: Arguments for ``module``, with several images.
    """
    def match(bn: _BatchNorm, args: tuple) -> None:
        x = args[0].double()
        scale, shift = bn_scale_shift(bn)
        dims = [d for d in range(x.dim()) if d != 1]
        mean, var = x.mean(dims), x.var(dims, unbiased=False)
        cast(Tensor, bn.running_mean).copy_(mean)
        cast(Tensor, bn.running_var).copy_(var)
        bn.weight.copy_(scale * torch.sqrt(var + bn.eps))
        bn.bias.copy_(shift + scale * mean)

    handles = [m.register_forward_pre_hook(match)
               for m in module.modules() if isinstance(m, _BatchNorm)]
    training = module.training
    try:
        module.eval()(*inputs)
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
