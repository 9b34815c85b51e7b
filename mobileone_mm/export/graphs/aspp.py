"""Compute DeepLabV3's ASPP head with the image pooling outside the bottleneck."""

from typing import TYPE_CHECKING, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmseg.models import ASPPHead

__all__ = ['computes_as_aspp', 'pooling_apart']


def computes_as_aspp(head: nn.Module) -> bool:
    """Whether a head is mmseg's ``ASPPHead`` or inherits its computation unchanged."""
    from mmseg.models import ASPPHead
    methods = ('forward', '_forward_feature', '_transform_inputs', 'cls_seg')
    return isinstance(head, ASPPHead) and all(
        getattr(type(head), name) is getattr(ASPPHead, name) for name in methods)


def pooling_apart(head: 'ASPPHead', inputs: Sequence[Tensor]) -> Tensor:
    """Compute an ``ASPPHead``, up to rounding, with a fifth less work in the bottleneck.

    The pooled branch is one vector per image, which the bottleneck sees as a constant map. In the
    1x1 projection of ``DeepLabV3Head`` it adds the same vector everywhere. In the 3x3 bottleneck of
    mmseg's ``ASPPHead`` it adds one of nine vectors, depending on whether the kernel reaches the
    padding above, below, left, right, at a corner or not at all. A map of 3x3 cells gives these
    nine vectors, which are spread and added.

    Args:
        head: An ``ASPPHead`` or ``DeepLabV3Head`` in eval mode, with or without folded norms.
        inputs: The backbone's maps, as ``head`` expects them.

    Returns:
        Logits (N, C, h, w).
    """
    x = head._transform_inputs(inputs)
    if min(x.shape[2:]) < 2:
        return head(inputs)
    conv = head.bottleneck.conv
    pooled = head.image_pool(x)
    ours, others = conv.weight.split([pooled.shape[1], conv.in_channels - pooled.shape[1]], 1)
    y = F.conv2d(torch.cat(head.aspp_modules(x), 1), others, conv.bias, padding=conv.padding)
    if conv.kernel_size == (1, 1):
        y = y + F.conv2d(pooled, ours)
    else:
        nine = F.conv2d(pooled.expand(-1, -1, 3, 3), ours, padding=1)
        y = y + _spread(_spread(nine, 2, y.shape[2]), 3, y.shape[3])
    if head.bottleneck.with_norm:
        y = head.bottleneck.norm(y)
    return head.cls_seg(head.bottleneck.activate(y))


def _spread(nine: Tensor, axis: int, length: int) -> Tensor:
    """Repeat the middle one of three values along an axis until there are ``length`` values."""
    first, middle, last = nine.split(1, axis)
    size = [-1] * 4
    size[axis] = length - 2
    return torch.cat([first, middle.expand(size), last], axis)
