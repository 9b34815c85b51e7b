"""A config for a data set of one's own in COCO's format, after a look at the data."""

from .split import CocoSplit, read_split
from .write import BASES, write_custom_config

__all__ = ['BASES', 'CocoSplit', 'read_split', 'write_custom_config']
