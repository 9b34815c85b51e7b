"""Confusion matrix and the worst images of a segmentor."""

import io
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.structures import PixelData
from PIL import Image

from ...utils.fileio import atomic_path
from ..pictures import segmentation_rows
from .figures import draw_confusion, draw_worst

__all__ = ['SegmentationReport', 'mean_iou']


@METRICS.register_module()
class SegmentationReport(BaseMetric):
    """Draw pictures of a segmentor's predictions; adds no numbers to the metrics.

    ``confusion_matrix.png`` counts pixels. ``worst.png`` shows the images with the lowest mean IoU
    of their classes, which ``worst.json`` lists.

    Args:
        out_dir: Directory of the pictures.
        worst: Number of images in ``worst.png``.
        ignore_index: Label of pixels to ignore.
        **kwargs: As in BaseMetric.
    """

    default_prefix = 'report'

    def __init__(self, out_dir: str, worst: int = 16, ignore_index: int = 255,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir, self.worst, self.ignore_index = Path(out_dir), worst, ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch; label maps are kept compressed."""
        number = len(self.dataset_meta['classes'])
        for sample in data_samples:
            maps = [sample[key]['data'].squeeze(0).cpu().numpy().astype(np.uint8)
                    for key in ('gt_sem_seg', 'pred_sem_seg')]
            truth, predicted = maps
            valid = truth != self.ignore_index
            counts = np.bincount(number * truth[valid].astype(int) + predicted[valid],
                                 minlength=number ** 2).reshape(number, number)
            self.results.append((counts, sample['img_path'], [_packed(each) for each in maps]))

    def compute_metrics(self, results: List[Tuple[np.ndarray, str, List[bytes]]]
                        ) -> Dict[str, float]:
        """Draw; returns no metrics."""
        classes, palette = self.dataset_meta['classes'], self.dataset_meta['palette']
        self.out_dir.mkdir(parents=True, exist_ok=True)
        draw_confusion(np.sum([counts for counts, _, _ in results], 0), classes, classes,
                       self.out_dir / 'confusion_matrix.png')
        scored = sorted(((mean_iou(counts), path, maps) for counts, path, maps in results),
                        key=lambda item: item[:2])[:self.worst]
        samples = [SimpleNamespace(img_path=path, **{
            key: PixelData(data=torch.from_numpy(_unpacked(packed))[None])
            for key, packed in zip(('gt_sem_seg', 'pred_sem_seg'), maps)})
            for _, path, maps in scored]
        draw_worst(samples, partial(segmentation_rows, palette=palette), self.out_dir / 'worst.png')
        with atomic_path(self.out_dir / 'worst.json') as path:
            path.write_text(json.dumps([dict(image=image, mIoU=round(100 * score, 2))
                                        for score, image, _ in scored], indent=1),
                            encoding='utf-8')
        return {}


def mean_iou(counts: np.ndarray) -> float:
    """Mean IoU, 0 to 1, of the classes that are annotated or predicted; 1 if there are none.

    Args:
        counts: Number of pixels, (C, C), true by predicted.
    """
    right = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - right
    return float((right[union > 0] / union[union > 0]).mean()) if union.any() else 1.


def _packed(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(labels).save(file, format='PNG')
    return file.getvalue()


def _unpacked(packed: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(packed)))
