"""The interface of a MobileOne block, for computing its branches."""

from typing import Any, Dict, Iterator, Optional, Protocol, Tuple

import torch
from torch import Tensor, nn

__all__ = ['BranchBlock']


class BranchBlock(Protocol):
    """A :class:`~mobileone_mm.backbones.MobileOneBlock`, which this room does not import."""

    branch_engine: str
    conv_kwargs: Dict[str, Any]

    @property
    def rbr_conv(self) -> nn.ModuleList:
        """Convolutions with their norms."""

    @property
    def rbr_scale(self) -> Optional[nn.Module]:
        """The 1x1 branch."""

    @property
    def rbr_skip(self) -> Optional[nn.Module]:
        """The identity's norm."""

    @property
    def se(self) -> nn.Module:
        """Squeeze-and-excitation, or the identity."""

    @property
    def activation(self) -> nn.Module:
        """Comes last."""

    def branches(self) -> Iterator[nn.Module]:
        """All branches, in the order of the attributes above."""

    def equivalent_kernel_bias(self, dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
        """Kernel and bias of the convolution that equals the branches in eval mode."""
