"""Describe the branches of a block: what is the same in every call."""

from typing import List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .maths import moment_fold as fold
from .maths import moments as mo

__all__ = ['BranchPlan', 'BranchTensors']


class BranchTensors(NamedTuple):
    """What is differentiated in a block, besides its input.

    ``weights`` of the convolutions; ``gammas`` and ``betas``, one per norm, ``None`` if a norm has
    none.
    """

    weights: Sequence[Tensor]
    gammas: Sequence[Optional[Tensor]]
    betas: Sequence[Optional[Tensor]]


class BranchPlan(NamedTuple):
    """The branches of a block for one forward pass, without the tensors to differentiate.

    Attributes:
        shape: Shape of the block's convolutions.
        depthwise: Whether each channel only reads itself; otherwise every channel reads all.
        has_scale: Whether a 1x1 convolution follows the k convolutions.
        has_skip: Whether the identity comes last.
        norms: One per branch, in that order.
        relu: Whether to apply ReLU to the sum.
    """

    shape: mo.ConvShape
    depthwise: bool
    has_scale: bool
    has_skip: bool
    norms: List[_BatchNorm]
    relu: bool

    def split(self, tensors: Sequence[Optional[Tensor]]) -> BranchTensors:
        """Split a list in autograd's order: weights, then gammas, then betas."""
        b = len(self.norms)
        weights = [w for w in tensors[:-2 * b] if w is not None]
        return BranchTensors(weights, tensors[-2 * b:-b], tensors[-b:])

    def grads(self, tensors: Sequence[Optional[Tensor]], weights: Sequence[Tensor], gamma: Tensor,
              beta: Tensor) -> List[Optional[Tensor]]:
        """Gradients of all ``tensors``, from those of the weights, gamma (b, C) and beta (C,).

        Each in the shape and dtype of its tensor; ``None`` where there is none.
        """
        every = [*weights, *gamma.unbind(), *[beta] * len(self.norms)]
        return [None if p is None else g.reshape(p.shape).to(p.dtype)
                for p, g in zip(tensors, every)]

    def kernels(self, weights: Sequence[Tensor], dtype: torch.dtype) -> fold.Kernels:
        """The branches' kernels on the patch that an output reads."""
        if self.depthwise:
            return fold.DepthwiseKernels(self.depthwise_weight(weights, dtype))
        taps = self.shape.kernel_size**2
        identity = None
        if self.has_skip:
            channels = weights[0].shape[1]
            identity = torch.arange(channels, device=weights[0].device) * taps + taps // 2
        return fold.DenseKernels(self._at_center(weights, dtype).flatten(2), identity)

    def depthwise_weight(self, weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Kernels of all branches of a depthwise block, including the identity: (b, C, K)."""
        weight = self._at_center(weights, dtype).squeeze(2)
        if not self.has_skip:
            return weight
        identity = torch.zeros_like(weight[:1])
        identity[:, :, weight.shape[2] // 2] = 1
        return torch.cat([weight, identity])

    def _at_center(self, weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Weights of the convolutions, with 1x1 kernels at the center tap: (b', C_out, C_in, K)."""
        taps = self.shape.kernel_size**2
        rows = [w.detach().to(dtype).flatten(2) for w in weights]
        if self.has_scale:
            rows[-1] = F.pad(rows[-1], (taps // 2, taps // 2))
        return torch.stack(rows)

    def split_weight_grads(self, grads: Tensor, weights: Sequence[Tensor]) -> List[Tensor]:
        """Undo the stacking: from (b, C_out, C_in K)."""
        taps = self.shape.kernel_size**2
        found = [grad.reshape(len(w), -1, taps) for w, grad in zip(weights, grads)]
        if self.has_scale:
            found[-1] = found[-1][:, :, taps // 2]
        return found

    def tap_weight(self, weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """How branches read the convolution's output y and the block's input x: (b, C, 2).

        The convolution's branch reads y, the identity x, and the 1x1 branch x times its weight. In
        a block without other branches, nothing reads x.
        """
        weight = weights[0].new_zeros(len(self.norms), len(weights[0]), 2, dtype=dtype)
        weight[0, :, 0] = 1
        weight[1:, :, 1] = 1
        if self.has_scale:
            weight[1, :, 1] = weights[1].detach().flatten()
        return weight
