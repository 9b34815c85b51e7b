"""Equalize the layers of a folded MobileOne (Nagel et al., ICCV 2019, arXiv 1906.04721).

Folding multiplies kernels by gammas over standard deviations, so the channels of a folded layer
have very different ranges, which 8 bits for the whole layer cannot represent well. For s > 0,
ReLU(s x) is s ReLU(x). So dividing a layer's output channel by s and multiplying the next layer's
input channel by s only changes the ranges.
"""

from typing import List, Tuple

import torch
from torch import Tensor, nn

from ...backbones.block import MobileOneBlock
from ...backbones.mobileone import MobileOne

SWEEPS = 20  # passes over the chain; later passes change the ranges by less than a percent


def equalize(backbone: MobileOne, sweeps: int = SWEEPS) -> List[str]:
    """Balance the ranges of neighboring layers in place; the outputs stay the same.

    It skips layers whose output the neck also reads, layers followed by squeeze-and-excitation,
    and layers with another activation than ReLU.

    Args:
        backbone: A folded MobileOne.
        sweeps: Passes over the chain.

    Returns:
        Names of the layers whose output channels were rescaled.

    Raises:
        ValueError: ``backbone`` is not folded.
    """
    pairs = chain(backbone)
    with torch.no_grad():
        for _ in range(sweeps):
            for _, layer, following in pairs:
                _balance(layer.reparam_conv, following.reparam_conv)
    return [name for name, _, _ in pairs]


def chain(backbone: MobileOne) -> List[Tuple[str, MobileOneBlock, MobileOneBlock]]:
    """Tuples of a layer's name, the layer, and the only layer that reads it, in order."""
    blocks = [(name, module) for name, module in backbone.named_modules()
              if isinstance(module, MobileOneBlock)]
    if not all(block.deploy for _, block in blocks):
        raise ValueError('the backbone is not folded: equalization works on folded layers')
    tapped = {f'stage{index + 1}.{len(backbone.get_submodule(f"stage{index + 1}")) - 1}'
              for index in backbone.out_indices}
    return [(name, block, following)
            for (name, block), (_, following) in zip(blocks, blocks[1:])
            if name not in tapped and isinstance(block.se, nn.Identity)
            and isinstance(block.activation, nn.ReLU)]


def _balance(layer: nn.Conv2d, following: nn.Conv2d) -> None:
    own = layer.weight.abs().amax((1, 2, 3))
    reader = following.weight.abs()
    depthwise = following.groups > 1
    other = reader.amax((1, 2, 3)) if depthwise else reader.amax((0, 2, 3))
    scale = (own / other).sqrt()
    scale[~(scale.isfinite() & (scale > 0))] = 1  # a dead channel
    layer.weight.div_(_along(scale, 0))
    if layer.bias is not None:
        layer.bias.div_(scale)
    following.weight.mul_(_along(scale, 0 if depthwise else 1))


def _along(values: Tensor, axis: int) -> Tensor:
    return values.view([-1 if i == axis else 1 for i in range(4)])
