"""Boxes of equal scores: which of them suppresses the other is up to rounding.

A hardly trained detector gives many anchors the same score. One answer then holds a box, and the
other, as right, a neighbor, with all that either of them suppresses. What tells a right answer
from a wrong one is the PyTorch model's boxes before suppression.
"""

from typing import Any, List, Optional, Sequence, Set

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from .errors import UnknownHeadError
from .graphs.models import check_head, level_predictions

OVERLAP_SLACK = .01  # of rounding, in the IoU at which boxes suppress each other


class Ties:
    """What the PyTorch model could have answered as well.

    Args:
        boxes: All pairs of anchor and class above the threshold: ``bboxes`` (M, 4), ``scores`` and
            ``labels`` (M, ).
        cuts: Least score that ``nms_pre`` kept, of each feature map that it cut.
        iou_threshold: Of suppression.
    """

    def __init__(self, boxes: InstanceData, cuts: Sequence[float], iou_threshold: float) -> None:
        self.boxes, self.cuts, self.iou_threshold = boxes, list(cuts), iou_threshold

    def possible(self, actual: InstanceData, columns: Sequence[int], iou: float, score: float
                 ) -> Set[int]:
        """Which boxes of an answer are the model's own, and suppressed by none beside them.

        Args:
            actual: The exported file's answer.
            columns: The boxes in question.
            iou: Least overlap with a box of the model.
            score: Largest difference of their scores.
        """
        found = set()
        for column in columns:
            box, label = actual.bboxes[column], actual.labels[column]
            own = ((self.boxes.labels == label)
                   & ((self.boxes.scores - actual.scores[column]).abs() <= score)
                   & (ious(box[None], self.boxes.bboxes)[0] >= iou))
            overlaps = ious(box[None], actual.bboxes)[0] > self.iou_threshold + OVERLAP_SLACK
            overlaps &= actual.labels == label
            overlaps[column] = False
            if own.any() and not overlaps.any():
                found.add(column)
        return found

    def dispensable(self, expected: InstanceData, rows: Sequence[int], actual: InstanceData,
                    score: float) -> Set[int]:
        """Which boxes of the PyTorch model another answer rightly lacks.

        That are those that one of its boxes, of no lower score, suppresses, and those whose score
        is the last one that ``nms_pre`` keeps.

        Args:
            expected: The PyTorch model's answer.
            rows: The boxes in question.
            actual: The exported file's answer.
            score: Largest difference of scores that count as equal.
        """
        found = set()
        for row in rows:
            own = expected.scores[row]
            suppressed = ((actual.labels == expected.labels[row]) & (actual.scores >= own - score)
                          & (ious(expected.bboxes[row][None], actual.bboxes)[0]
                             >= self.iou_threshold - OVERLAP_SLACK))
            if suppressed.any() or any(abs(own - cut) <= score for cut in self.cuts):
                found.add(row)
        return found


@torch.no_grad()
def find_ties(model: BaseModel, inputs: Tensor, sample: Any) -> Optional[Ties]:
    """The boxes of an SSD detector before suppression, by mmdet's own decoding.

    Args:
        model: The PyTorch model.
        inputs: (1, 3, H, W), as the data preprocessor gives it.
        sample: Its data sample.

    Returns:
        None for other models.
    """
    try:
        check_head(model)
    except UnknownHeadError:
        return None
    head, cfg = model.bbox_head, model.test_cfg.copy()
    class_maps, delta_maps = head(model.extract_feat(inputs))
    limit = cfg.get('nms_pre', -1)
    cfg.nms_pre = -1
    boxes = head.predict_by_feat(class_maps, delta_maps, batch_img_metas=[sample.metainfo],
                                 cfg=cfg, rescale=True, with_nms=False)[0]
    cuts: List[float] = []
    for scores, _ in level_predictions(head, class_maps, delta_maps, None):
        if 0 < limit < scores.numel():
            cuts.append(float(scores.flatten().topk(limit)[0][-1]))
    return Ties(boxes, cuts, cfg.nms.iou_threshold)


def ious(first: Tensor, second: Tensor) -> Tensor:
    """IoU (N, M) of boxes (N, 4) and (M, 4); that of two equal boxes without an area is 1."""
    first, second = first.double(), second.double()
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(side[:, 2:] - side[:, :2]).prod(-1) for side in (first, second)]
    union = areas[0][:, None] + areas[1][None] - both
    same = (first[:, None] == second[None]).all(-1)
    return torch.where(same, torch.ones_like(both), both / union.clamp(min=1e-12))
