"""Turn a network of the table into the module to time."""

import copy

import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn

from ...export.graphs.fixed_size import FixedSizeDetector, FixedSizeSegmentor
from ...export.graphs.models import DetectorGraph, RawDetectorGraph, SegmentorGraph
from ...folding.reparameterize import reparameterize
from ...folding.verify import relative_difference
from .networks import Network

__all__ = ['build', 'fold', 'for_phones', 'with_pick', 'without_ends']

TOLERANCE = 1e-4
"""Largest accepted change of an output by folding, relative to the largest output."""


def build(network: Network) -> nn.Module:
    """The module of a network, in its form and in eval mode.

    Detectors and segmentors are those of :mod:`mobileone_mm.export.graphs.models`: from the image,
    including its normalization, to boxes or labels.

    Raises:
        RuntimeError: Folding changed what the network computes.
    """
    torch.manual_seed(0)
    model = network.build().eval()
    if network.form == 'folded':
        model = fold(model, network.size)
    graphs = dict(detectors=DetectorGraph, segmentors=SegmentorGraph)
    return graphs[network.family](model).eval() if network.family in graphs else model


def fold(model: nn.Module, size: int) -> nn.Module:
    """Fold MobileOne's branches, and every batch norm into the convolution before it.

    The result is checked on an image of noise, because mmcv's ``fuse_conv_bn`` pairs layers in the
    order of their definition, which need not be the order in which they run.

    Args:
        model: The model, in eval mode; it is not changed.
        size: Size of the image, in pixels.

    Raises:
        RuntimeError: The outputs changed by more than ``TOLERANCE``.
    """
    folded = copy.deepcopy(model)
    if any(hasattr(module, 'switch_to_deploy') for module in folded.modules()):
        reparameterize(folded, inplace=True)
    folded = fuse_conv_bn(folded).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():  # up to any suppression or argmax
        change = relative_difference(*(getattr(net, '_forward', net)(image)
                                       for net in (model, folded)))
    if not change <= TOLERANCE:
        raise RuntimeError(f'folding changed an output by {change:.1e} of the largest, more than '
                           f'{TOLERANCE:.0e}')
    return folded


def without_ends(module: nn.Module) -> nn.Module:
    """A detector's or segmentor's graph without normalization, decoding, suppression or argmax.

    This is what ncnn's graphs hold. Other modules are returned as they are.
    """
    if isinstance(module, DetectorGraph):
        return RawDetectorGraph(module.model, decode=False, normalize=False)
    if isinstance(module, SegmentorGraph):
        return SegmentorGraph(module.model, argmax=False, normalize=False)
    return module


def for_phones(module: nn.Module, image: Tensor) -> nn.Module:
    """The graph of LiteRT's and ExecuTorch's files in place of an end-to-end one.

    Args:
        module: Others than a detector's or segmentor's graph are returned as they are.
        image: (N, 3, H, W).
    """
    if isinstance(module, DetectorGraph):
        return FixedSizeDetector(module.model, image).eval()
    if isinstance(module, SegmentorGraph):
        return FixedSizeSegmentor(SegmentorGraph(module.model, argmax=False)).eval()
    return module


def with_pick(module: nn.Module, pick: str) -> nn.Module:
    """A segmentor's graph with the last step of another runtime; other modules as they are."""
    if getattr(module, 'pick', pick) == pick:
        return module
    return SegmentorGraph(module.model, pick=pick)
