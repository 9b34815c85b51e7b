"""Check a user's data set in COCO's format and write a config for it."""

from .split import CocoSplit, read_split
from .write import BASES, write_custom_config

__all__ = ['BASES', 'CocoSplit', 'read_split', 'write_custom_config']
