"""Pooling to a grid of fixed size, for runtimes that have no operator for it.

The cells of PyTorch's adaptive pooling differ in size where the grid does not divide the map, as in
the pyramids of PSPNet and UPerNet. Along each axis the means are a product with a matrix.
"""

from typing import Any, Tuple

import torch
from torch import Tensor, nn

__all__ = ['MatrixPool', 'pool_by_matrices']


class MatrixPool(nn.Module):
    """What ``nn.AdaptiveAvgPool2d`` computes, up to rounding.

    Args:
        size: Height and width of the result.
    """

    def __init__(self, size: Tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, h, w)."""
        rows, columns = (_means(length, cells).to(x)
                         for length, cells in zip(x.shape[2:], self.size))
        return torch.matmul(torch.matmul(rows, x), columns.transpose(0, 1))


def pool_by_matrices(model: nn.Module) -> None:
    """Replace each ``nn.AdaptiveAvgPool2d`` to more than one cell, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                size: Any = child.output_size
                size = size if isinstance(size, (tuple, list)) else (size, size)
                if None not in size and tuple(size) != (1, 1):
                    setattr(module, name, MatrixPool(tuple(size)))


def _means(length: int, cells: int) -> Tensor:
    """The (cells, length) matrix whose rows average what belongs to a cell.

    ``length`` may be traced: floor(i * length / cells) to ceil((i + 1) * length / cells) are
    computed on integers.
    """
    index = torch.arange(cells).unsqueeze(1)
    start = (index * length).div(cells, rounding_mode='floor')
    end = ((index + 1) * length + cells - 1).div(cells, rounding_mode='floor')
    place = torch.arange(length).unsqueeze(0)
    inside = ((place >= start) & (place < end)).float()
    return inside / inside.sum(1, keepdim=True)
