"""Pool to a grid of fixed size, for runtimes without an operator for it.

The cells of PyTorch's adaptive pooling differ in size if the grid does not divide the map, as in
the pyramids of PSPNet and UPerNet. Along each axis, a matrix product computes the means.
"""

from typing import Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

__all__ = ['MatrixPool', 'pool_by_matrices']


class MatrixPool(nn.Module):
    """Compute ``nn.AdaptiveAvgPool2d`` as matrix products, up to rounding.

    Args:
        size: Height and width of the result.
        fixed: Trace the matrices as constants, for graphs with a fixed input size.
    """

    def __init__(self, size: Tuple[int, int], fixed: bool = False) -> None:
        super().__init__()
        self.size, self.fixed = size, fixed

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, h, w)."""
        rows, columns = (_means(int(length) if self.fixed else length, cells).to(x)
                         for length, cells in zip(x.shape[2:], self.size))
        return torch.matmul(torch.matmul(rows, x), columns.transpose(0, 1))


def pool_by_matrices(model: nn.Module, fixed: bool = False) -> None:
    """Replace each ``nn.AdaptiveAvgPool2d`` with more than one cell, in place.

    Args:
        model: Any model.
        fixed: See :class:`MatrixPool`.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                size = _pair(child.output_size)
                if None not in size and size != (1, 1):
                    setattr(module, name, MatrixPool(size, fixed))


def _means(length: int, cells: int) -> Tensor:
    """The (cells, length) matrix whose rows average the values of a cell.

    Cell i runs from floor(i * length / cells) to ceil((i + 1) * length / cells), computed in
    integers, since ``length`` may be traced.
    """
    index = torch.arange(cells).unsqueeze(1)
    start = (index * length).div(cells, rounding_mode='floor')
    end = ((index + 1) * length + cells - 1).div(cells, rounding_mode='floor')
    place = torch.arange(length).unsqueeze(0)
    inside = ((place >= start) & (place < end)).float()
    return inside / inside.sum(1, keepdim=True)
