"""Weight initialization for short trainings from scratch."""

from mmengine.model.weight_init import BaseInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from .block import ConvBN, MobileOneBlock


@WEIGHT_INITIALIZERS.register_module()
class SkipInit(BaseInit):
    """Initialize every MobileOne block with a skip branch to little more than that branch.

    Sets the batch norm weights of the other branches, as is usual for the last batch norm of a
    residual block (arXiv 1706.02677, section 5.1). The network then starts out shallow and learns
    from the first iterations. Not in the paper.

    Args:
        val: The weight. Defaults to 0.
    """

    def __init__(self, val: float = 0.) -> None:
        super().__init__()
        self.val = val

    def __call__(self, module: nn.Module) -> None:
        """Initialize all MobileOne blocks in ``module``."""
        for block in module.modules():
            skip = getattr(block, 'rbr_skip', None)
            if not isinstance(block, MobileOneBlock) or skip is None:
                continue
            for branch in block.branches():
                if isinstance(branch, ConvBN):
                    nn.init.constant_(branch.bn.weight, self.val)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _get_init_info(self) -> str:
        return f'{type(self).__name__}: val={self.val}'
