"""Squeeze-and-excitation as in the released MobileOne-S4."""

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Rescale channels by a gate computed from their means (arXiv 1709.01507).

    Args:
        channels: C.
        ratio: The inner width is ``int(C / ratio)``. Defaults to 16.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        inner = int(channels / ratio)
        if inner < 1:
            raise ValueError(f'squeeze-and-excitation needs at least {ratio} channels, '
                             f'got {channels}')
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate = self.reduce(x.mean((2, 3), keepdim=True))
        return x * torch.sigmoid(self.expand(torch.relu(gate)))
