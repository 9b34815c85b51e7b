"""What the passes of one block need to know beside its tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['Fold', 'has_tensor_cores']


def has_tensor_cores(x: Tensor) -> bool:
    """Whether matrices of a map's values are multiplied by tensor cores.

    In half precision by those of Ampere and newer GPUs, which Triton knows; in float32 only if
    torch's convolutions may use TF32.
    """
    if not x.is_cuda or not torch.cuda.is_available():  # the latter for fake tensors
        return False
    allowed = x.dtype != torch.float32 or torch.backends.cudnn.allow_tf32
    return allowed and torch.cuda.get_device_capability(x.device) >= (8, 0)


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
