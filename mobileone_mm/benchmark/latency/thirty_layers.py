"""The paper's 30-layer network, with the activation and the branches as options (Tables 2, 3).

The paper only gives the number of layers. The rest is our choice: MobileNetV1 (arXiv 1704.04861)
with one more pair at 14x14. A stem, 14 pairs of depthwise and pointwise convolutions and a
classifier make 30 layers with weights.
"""

from typing import Callable, Dict, List, Tuple

import torch
from torch import Tensor, nn

from ...backbones.squeeze_excite import SqueezeExcite

__all__ = ['ACTIVATIONS', 'BRANCHES', 'ThirtyLayers']

# Channels and stride of each pair.
PAIRS: Tuple[Tuple[int, int], ...] = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1), ) * 6, (1024, 2),
    (1024, 1))


def _dynamic_relu(channels: int) -> nn.Module:
    from mmdet.models.layers import DyReLU
    return DyReLU(channels)


# From the number of channels to the activation.
ACTIVATIONS: Dict[str, Callable[[int], nn.Module]] = dict(
    relu=lambda channels: nn.ReLU(),
    relu6=lambda channels: nn.ReLU6(),
    leaky_relu=lambda channels: nn.LeakyReLU(.1),
    hard_swish=lambda channels: nn.Hardswish(),
    gelu=lambda channels: nn.GELU(),
    silu=lambda channels: nn.SiLU(),
    se_relu=lambda channels: nn.Sequential(SqueezeExcite(channels), nn.ReLU()),
    dynamic_relu=_dynamic_relu,
)
# Whether there is squeeze-and-excitation, and whether there are skip connections.
BRANCHES: Dict[str, Tuple[bool, bool]] = dict(
    neither=(False, False), se=(True, False), skip=(False, True), both=(True, True))


class ThirtyLayers(nn.Module):
    """A plain network of 30 layers in deployed form: convolutions with bias, no batch norms.

    Args:
        activation: A key of ``ACTIVATIONS``; it follows each of the 29 convolutions.
        se: Squeeze-and-excitation before the activation of each convolution but the stem.
        skip: A connection around each convolution that keeps the shape, added before the
            activation.

    Raises:
        ValueError: The activation is unknown.
    """

    def __init__(self, activation: str = 'relu', se: bool = False, skip: bool = False) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f'activation must be one of {list(ACTIVATIONS)}, got {activation!r}')
        channels = 32
        layers: List[nn.Module] = [_Layer(nn.Conv2d(3, channels, 3, 2, 1), activation)]
        for out_channels, stride in PAIRS:
            depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)
            pointwise = nn.Conv2d(channels, out_channels, 1)
            layers += [_Layer(conv, activation, se, skip) for conv in (depthwise, pointwise)]
            channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, 1000)."""
        return self.classifier(self.layers(x).mean((2, 3)))


class _Layer(nn.Module):
    """Convolution, then the optional branches, then the activation."""

    def __init__(self, conv: nn.Conv2d, activation: str, se: bool = False, skip: bool = False
                 ) -> None:
        super().__init__()
        self.conv = conv
        nn.init.kaiming_normal_(conv.weight, nonlinearity='relu')
        self.se = SqueezeExcite(conv.out_channels) if se else nn.Identity()
        self.skip = skip and conv.stride == (1, 1) and conv.in_channels == conv.out_channels
        self.activation = ACTIVATIONS[activation](conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.conv(x))
        return self.activation(torch.add(y, x) if self.skip else y)
