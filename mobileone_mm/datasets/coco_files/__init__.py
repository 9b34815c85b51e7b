"""COCO annotation files from any tool: read strictly, repaired, counted as mmdet uses them."""

from .categories import match_categories
from .count import Counts, count
from .read import CocoFile, read_coco

__all__ = ['CocoFile', 'Counts', 'count', 'match_categories', 'read_coco']
