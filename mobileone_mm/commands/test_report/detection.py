"""Confusion matrix, precision over recall and the worst images of a detector."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from mmdet.evaluation.functional import bbox_overlaps
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ...utils.fileio import atomic_path
from ..pictures import detection_rows
from .figures import draw_confusion, draw_curves, draw_worst

__all__ = ['DetectionReport', 'match']


@METRICS.register_module()
class DetectionReport(BaseMetric):
    """Draw pictures of a detector's predictions on a COCO file; adds no numbers to the metrics.

    ``confusion_matrix.png`` counts boxes with a score of at least ``score_thr`` that overlap an
    annotated box by ``iou_thr``. ``pr_curves.png`` is pycocotools' precision at IoU 0.5.
    ``worst.png`` shows the images with the most wrong or missed boxes, which ``worst.json`` lists.

    Args:
        ann_file: The annotations.
        out_dir: Directory of the pictures.
        worst: Number of images in ``worst.png``.
        score_thr: The confusion matrix and the worst images ignore boxes with lower scores.
        iou_thr: Minimum IoU of a correct box.
        **kwargs: As in BaseMetric.
    """

    default_prefix = 'report'

    def __init__(self, ann_file: str, out_dir: str, worst: int = 16, score_thr: float = .3,
                 iou_thr: float = .5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ann_file, self.out_dir, self.worst = ann_file, Path(out_dir), worst
        self.score_thr, self.iou_thr = score_thr, iou_thr

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            found = sample['pred_instances']
            self.results.append(dict(
                img_id=sample['img_id'], img_path=sample['img_path'],
                **{key: found[key].cpu().numpy() for key in ('bboxes', 'labels', 'scores')}))

    def compute_metrics(self, results: List[dict]) -> Dict[str, float]:
        """Draw; returns no metrics."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            coco = COCO(self.ann_file)
        classes = self.dataset_meta['classes']
        label_of = {category['id']: list(classes).index(category['name'])
                    for category in coco.loadCats(coco.getCatIds())
                    if category['name'] in classes}
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._draw_curves(coco, {label: key for key, label in label_of.items()}, results)
        number = len(classes)
        counts = np.zeros((number + 1, number + 1), np.int64)
        errors = []
        for result in results:
            truth = _truth(coco, result['img_id'], label_of)
            wrong = match(result, truth, counts, self.score_thr, self.iou_thr)
            errors.append((wrong, result, truth))
        names = [*classes, 'background']
        draw_confusion(counts, names, names, self.out_dir / 'confusion_matrix.png')
        self._draw_worst(errors)
        return {}

    def _draw_curves(self, coco: COCO, id_of: Dict[int, int], results: List[dict]) -> None:
        answers = [
            dict(image_id=result['img_id'], category_id=id_of[int(label)], score=float(score),
                 bbox=[float(x1), float(y1), float(x2 - x1), float(y2 - y1)])
            for result in results for (x1, y1, x2, y2), label, score
            in zip(result['bboxes'], result['labels'], result['scores']) if int(label) in id_of]
        if not answers:
            return  # no curve
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, coco.loadRes(answers), 'bbox')
            evaluation.params.catIds = [id_of[label] for label in sorted(id_of)]
            evaluation.params.imgIds = [result['img_id'] for result in results]
            evaluation.evaluate()
            evaluation.accumulate()
        # (IoU, recall, category, area, most boxes): at IoU 0.5, all areas, 100 boxes
        precision = evaluation.eval['precision'][0, :, :, 0, -1]
        curves = {self.dataset_meta['classes'][label]: precision[:, i]
                  for i, label in enumerate(sorted(id_of)) if (precision[:, i] >= 0).all()}
        if curves:
            curves = {f'{name} (AP50 {curve.mean():.3f})': curve for name, curve in curves.items()}
            mean = np.mean(list(curves.values()), 0)
            curves[f'all classes (AP50 {mean.mean():.3f})'] = mean
            draw_curves(evaluation.params.recThrs, curves, self.out_dir / 'pr_curves.png')

    def _draw_worst(self, errors: List[Tuple[int, dict, dict]]) -> None:
        worst = sorted(errors, key=lambda item: (-item[0], item[1]['img_path']))[:self.worst]
        samples = []
        for _, result, truth in worst:
            gt = InstanceData(bboxes=truth['bboxes'], labels=truth['labels'])
            found = InstanceData(**{k: result[k] for k in ('bboxes', 'labels', 'scores')})
            samples.append(SimpleNamespace(img_path=result['img_path'], gt_instances=gt,
                                           pred_instances=found))
        if samples:
            classes = self.dataset_meta['classes']
            draw_worst(samples, lambda some: detection_rows(some, classes, self.score_thr),
                       self.out_dir / 'worst.png', classes)
        with atomic_path(self.out_dir / 'worst.json') as path:
            path.write_text(json.dumps([dict(image=result['img_path'], wrong_boxes=wrong)
                                        for wrong, result, _ in worst], indent=1),
                            encoding='utf-8')


def match(result: dict, truth: dict, counts: np.ndarray, score_thr: float, iou_thr: float) -> int:
    """Count the boxes of an image into a confusion matrix.

    Boxes are paired by IoU, the largest first, each box once. Boxes on crowds are not errors.

    Args:
        result: (N, 4) 'bboxes', x1, y1, x2, y2, their 'labels' and 'scores'.
        truth: Annotated 'bboxes' and 'labels', and 'crowds', (M, 4).
        counts: (classes + 1, classes + 1), true by predicted, background last; added to in place.
        score_thr: Boxes with lower scores are left out.
        iou_thr: Minimum IoU of a pair.

    Returns:
        Number of boxes with the wrong class, missed boxes, and boxes without an object.
    """
    keep = result['scores'] >= score_thr
    boxes, labels = result['bboxes'][keep], result['labels'][keep]
    background = len(counts) - 1
    overlaps = bbox_overlaps(truth['bboxes'], boxes)
    found = np.full(len(truth['bboxes']), -1)
    free = np.ones(len(boxes), bool)
    order = np.dstack(np.unravel_index(np.argsort(-overlaps, axis=None, kind='stable'),
                                       overlaps.shape))[0] if overlaps.size else []
    for i, j in order:
        if overlaps[i, j] < iou_thr:
            break
        if found[i] < 0 and free[j]:
            found[i], free[j] = j, False
    wrong = 0
    for label, j in zip(truth['labels'], found):
        predicted = background if j < 0 else labels[j]
        counts[label, predicted] += 1
        wrong += int(predicted != label)
    if len(truth['crowds']) and free.any():
        inside = bbox_overlaps(boxes, truth['crowds'], mode='iof').max(1) >= iou_thr
        free &= ~inside
    for label in labels[free]:
        counts[background, label] += 1
    return wrong + int(free.sum())


def _truth(coco: COCO, img_id: Any, label_of: Dict[int, int]) -> Dict[str, np.ndarray]:
    boxes: List[List[float]] = []
    crowds: List[List[float]] = []
    labels = []
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[img_id])):
        if annotation['category_id'] in label_of:
            x, y, width, height = annotation['bbox']
            if annotation.get('iscrowd'):
                crowds.append([x, y, x + width, y + height])
            else:
                boxes.append([x, y, x + width, y + height])
                labels.append(label_of[annotation['category_id']])
    return dict(bboxes=np.array(boxes, np.float32).reshape(-1, 4), labels=np.array(labels, int),
                crowds=np.array(crowds, np.float32).reshape(-1, 4))
