"""What is the same in every call of a block: its convolution and its norms."""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .maths import moment_fold as fold
from .maths import moments as mo


@dataclass
class BranchPlan:
    """The branches of one block for one forward pass: all but the tensors to differentiate.

    Attributes:
        shape: Of the block's convolutions.
        depthwise: Whether each channel reads itself only; else every channel reads all.
        has_scale: A 1x1 convolution follows the k convolutions.
        has_skip: The identity comes last.
        norms: One a branch, in that order.
        relu: Apply ReLU to the sum.
    """

    shape: mo.ConvShape
    depthwise: bool
    has_scale: bool
    has_skip: bool
    norms: List[_BatchNorm]
    relu: bool

    def kernels(self, weights: Sequence[Tensor], dtype: torch.dtype) -> fold.Kernels:
        """Stack the weights of the convolutions, a 1x1 one at the centre tap."""
        taps = self.shape.kernel_size**2
        rows = [w.to(dtype).flatten(2) for w in weights]
        if self.has_scale:
            rows[-1] = F.pad(rows[-1], (taps // 2, taps // 2))
        if not self.depthwise:
            identity = None
            if self.has_skip:
                channels = rows[0].shape[1]
                identity = torch.arange(channels, device=rows[0].device) * taps + taps // 2
            return fold.DenseKernels(torch.stack(rows).flatten(2), identity)
        rows = [row.squeeze(1) for row in rows]
        if self.has_skip:
            centre = torch.zeros_like(rows[0])
            centre[:, taps // 2] = 1
            rows.append(centre)
        return fold.DepthwiseKernels(torch.stack(rows))

    def split_weight_grads(self, grads: Tensor, weights: Sequence[Tensor]) -> List[Tensor]:
        """Undo :meth:`kernels`."""
        taps = self.shape.kernel_size**2
        result = []
        for i, w in enumerate(weights):
            grad = grads[i].reshape(w.shape[0], w.shape[1], taps)
            if self.has_scale and i == len(weights) - 1:
                grad = grad[:, :, taps // 2]
            result.append(grad.reshape(w.shape).to(w.dtype))
        return result


def weights_of(plan: BranchPlan, tensors: Sequence[Optional[Tensor]]) -> Sequence[Tensor]:
    """The weights among ``tensors``, which end with gammas and betas."""
    return tensors[:len(tensors) - 2 * len(plan.norms)]


def affine_of(plan: BranchPlan, tensors: Sequence[Optional[Tensor]]) -> Sequence[Optional[Tensor]]:
    """The gammas and betas among ``tensors``."""
    return tensors[len(tensors) - 2 * len(plan.norms):]
