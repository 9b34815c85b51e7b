"""Count instead of measuring: multiply-adds, parameters, activations."""

import warnings
from dataclasses import dataclass
from typing import Tuple

import torch
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from torch import nn

__all__ = ['Cost', 'count']


@dataclass(frozen=True)
class Cost:
    """The cost of one image.

    Attributes:
        macs: Multiply-adds, which the paper and mmengine call FLOPs.
        params: Parameters.
        activations: Elements that convolutions and linear layers write.
    """

    macs: int
    params: int
    activations: int


def count(module: nn.Module, size: int) -> Cost:
    """Count with mmengine's analyzers, in the module's current form: fold it first.

    Args:
        module: A module that takes images (1, 3, size, size).
        size: Height and width, in pixels.
    """
    image: Tuple[torch.Tensor, ...] = (torch.zeros(1, 3, size, size), )
    totals = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # remarks about tracing
        for analyzer in (FlopAnalyzer, ActivationAnalyzer):
            analysis = analyzer(module, image)
            # Additions, resizing and the like: the paper does not count them either.
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            totals.append(int(analysis.total()))
    return Cost(totals[0], sum(p.numel() for p in module.parameters()), totals[1])
