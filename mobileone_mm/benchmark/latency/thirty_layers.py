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
        width: Factor for all numbers of channels. Defaults to 1.
        num_classes: Defaults to 1000.

    Raises:
        ValueError: The activation is unknown.
    """

    def __init__(self, activation: str = 'relu', se: bool = False, skip: bool = False,
                 width: float = 1., num_classes: int = 1000) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f'activation must be one of {list(ACTIVATIONS)}, got {activation!r}')
        channels = int(32 * width)
        layers: List[nn.Module] = [
            _Layer(3, channels, 3, 2, 1, activation, se=False, skip=False)]
        for base, stride in PAIRS:
            out_channels = int(base * width)
            layers += [
                _Layer(channels, channels, 3, stride, channels, activation, se, skip),
                _Layer(channels, out_channels, 1, 1, 1, activation, se, skip)]
            channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        return self.classifier(self.layers(x).mean((2, 3)))


class _Layer(nn.Module):
    """Convolution, then the optional branches, then the activation."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int,
                 activation: str, se: bool, skip: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity='relu')
        self.se = SqueezeExcite(out_channels) if se else nn.Identity()
        self.skip = skip and stride == 1 and in_channels == out_channels
        self.activation = ACTIVATIONS[activation](out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.conv(x))
        return self.activation(torch.add(y, x) if self.skip else y)
