"""Inputs from a config's validation set that determine the ranges of activations."""

import copy
from typing import Iterator

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ..errors import ExportError


class CalibrationImages:
    """Images evenly spread over the validation set.

    Args:
        cfg: A complete config.
        count: Number of images; all if there are fewer.

    Raises:
        ExportError: The config has no validation set, or it is empty.
    """

    def __init__(self, cfg: Config, count: int) -> None:
        if count < 1:
            raise ExportError(f'the number of calibration images must be at least 1, got {count}')
        if not cfg.get('val_dataloader'):
            raise ExportError('the config has no val_dataloader to take calibration images from')
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        self.dataset = DATASETS.build(copy.deepcopy(cfg.val_dataloader.dataset))
        total = len(self.dataset)
        if not total:
            raise ExportError('the validation set is empty: there is nothing to calibrate with')
        count = min(count, total)
        self.indices = [index * total // count for index in range(count)]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Images (1, 3, H, W), float32, BGR, 0 to 255."""
        for index in self.indices:
            yield self.dataset[index]['inputs'][None].float().numpy()
