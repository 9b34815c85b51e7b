"""Put COCO, Pascal VOC with SBD, and ADE20K where the configs look for them."""

from .archives import Archive, ArchiveError
from .catalog import DATASETS, DatasetSpec
from .steps import prepare

__all__ = ['DATASETS', 'Archive', 'ArchiveError', 'DatasetSpec', 'prepare']
