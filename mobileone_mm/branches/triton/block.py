"""What the passes of a block need to know, besides its tensors."""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

__all__ = ['Fold', 'tensor_cores']


def tensor_cores(x: Tensor) -> int:
    """The generation of the tensor cores for products of this map's values; 0 for none.

    This is the major compute capability, from 8 (Ampere) on, since Triton supports no older ones.
    In float32 it is 0 unless torch's convolutions may use TF32.
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
        convs: k, the number of convolutions with the block's own kernel.
        scale: Whether a 1x1 convolution follows them.
        skip: Whether the identity comes last.
        depthwise: Whether each channel only reads itself; otherwise the block is pointwise.
        stride: The block's stride.
        dilation: The block's dilation.
        eps: Epsilon of all norms.
        relu: Whether to apply ReLU to the sum.
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
        """The number of branches, b."""
        return self.convs + self.scale + self.skip

    @property
    def branches(self) -> Tuple[int, int, int]:
        """The number of branches of each kind, for kernels."""
        return self.convs, int(self.scale), int(self.skip)

    @property
    def padded(self) -> int:
        """The number of branches, rounded up; kernels are compiled for each of these numbers."""
        return 8 if self.norms <= 8 else 1 << (self.norms - 1).bit_length()
