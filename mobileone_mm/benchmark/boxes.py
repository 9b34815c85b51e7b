"""Random boxes for non-maximum suppression."""

from typing import Tuple

import torch
from torch import Tensor

__all__ = ['clustered']


def clustered(count: int, centers: int = 20, size: int = 320, seed: int = 0
              ) -> Tuple[Tensor, Tensor]:
    """Draw boxes (N, 4) around some centers in a square image, and distinct scores (N,)."""
    generator = torch.Generator().manual_seed(seed)
    middle = (torch.rand(centers, 2, generator=generator) * size)[torch.arange(count) % centers]
    middle = middle + 3 * torch.randn(count, 2, generator=generator)
    half = 10 + 10 * torch.rand(count, 2, generator=generator)
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    return torch.cat([middle - half, middle + half], 1), scores
