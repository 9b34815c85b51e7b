"""The MobileOne backbone."""

from .block import MobileOneBlock
from .mobileone import MobileOne

__all__ = ['MobileOne', 'MobileOneBlock']
