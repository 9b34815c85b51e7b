"""The MobileOne backbone."""

from .block import MobileOneBlock
from .initializers import SkipInit
from .mobileone import MobileOne

__all__ = ['MobileOne', 'MobileOneBlock', 'SkipInit']
