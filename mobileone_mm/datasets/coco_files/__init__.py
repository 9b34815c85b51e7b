"""COCO annotation files of any origin: read strictly, repaired, counted as mmdet trains on them."""

from .categories import match_categories
from .count import Counts, count
from .read import CocoFile, read_coco

__all__ = ['CocoFile', 'Counts', 'count', 'match_categories', 'read_coco']
