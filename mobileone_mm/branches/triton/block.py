"""What the passes of one block need to know beside its tensors."""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

__all__ = ['Fold', 'tensor_cores']


def tensor_cores(x: Tensor) -> int:
    """The generation of tensor cores that multiply matrices of a map's values, 0 for none.

    That is the major compute capability, from 8 (Ampere) on, for Triton knows no older ones. In
    float32 none do unless torch's convolutions may use TF32.
    """
    if not x.is_cuda or not torch.cuda.is_available():  # the latter for fake tensors
        return 0
    if x.dtype == torch.float32 and not torch.backends.cudnn.allow_tf32:
        return 0
    major = torch.cuda.get_device_capability(x.device)[0]
    return major if major >= 8 else 0


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

    @property
    def branches(self) -> Tuple[int, int, int]:
        """How many branches of each kind there are, as kernels take them."""
        return self.convs, int(self.scale), int(self.skip)

    @property
    def padded(self) -> int:
        """B for kernels, which know powers of two only; few of them, for each is compiled."""
        return 8 if self.norms <= 8 else 1 << (self.norms - 1).bit_length()
