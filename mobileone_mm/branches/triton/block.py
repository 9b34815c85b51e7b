"""What the passes of one block need to know beside its tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['Fold', 'multiplies_in_tf32']


def multiplies_in_tf32(x: Tensor) -> bool:
    """Whether torch's convolutions of a float32 map use TF32, by its settings and device."""
    return (x.dtype == torch.float32 and x.is_cuda and torch.backends.cudnn.allow_tf32
            and torch.cuda.is_available()  # not so for fake tensors elsewhere
            and torch.cuda.get_device_capability(x.device) >= (8, 0))


class Fold(NamedTuple):
    """A block's branches.

    Attributes:
        convs: k, convolutions of the block's own kernel.
        scale: Whether a 1x1 convolution follows them.
        skip: Whether the identity comes last.
        depthwise: Whether each channel reads itself only; else the block is pointwise.
        stride: Of the block.
        dilation: Of the block.
        eps: Of all norms.
        relu: Apply ReLU to the sum.
    """

    convs: int
    scale: bool
    skip: bool
    depthwise: bool
    stride: int
    dilation: int
    eps: float
    relu: bool

    @property
    def norms(self) -> int:
        """How many branches there are, b."""
        return self.convs + self.scale + self.skip

    def branches(self) -> dict:
        """The constants of the fold kernels."""
        return dict(K=self.convs, SCALE=int(self.scale), SKIP=int(self.skip),
                    BRANCHES=max(2, 1 << (self.norms - 1).bit_length()))
