"""Accept differences between boxes of equal scores, where rounding decides which one is suppressed.

A barely trained detector gives many anchors the same score. One prediction then has a box, and the
other a neighbor of it, which is just as valid. The PyTorch model's boxes before suppression show
whether a prediction is valid.
"""

from typing import Any, List, Optional, Sequence, Set

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from .errors import UnknownHeadError
from .graphs.models import check_head, level_predictions

OVERLAP_SLACK = .01  # rounding of the IoU at which boxes suppress each other


class Ties:
    """Other valid predictions of the PyTorch model.

    Args:
        boxes: All pairs of anchor and class above the threshold: ``bboxes`` (M, 4), ``scores`` and
            ``labels`` (M, ).
        cuts: For each feature map that ``nms_pre`` cut, the lowest score it kept.
        iou_threshold: IoU threshold of suppression.
    """

    def __init__(self, boxes: InstanceData, cuts: Sequence[float], iou_threshold: float) -> None:
        self.boxes, self.cuts, self.iou_threshold = boxes, list(cuts), iou_threshold

    def possible(self, actual: InstanceData, columns: Sequence[int], iou: float, score: float
                 ) -> Set[int]:
        """Boxes of a prediction that the model also has, and that no other box suppresses.

        Args:
            actual: The exported file's prediction.
            columns: Indices of the boxes to check.
            iou: Smallest IoU with a box of the model.
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
        """Boxes of the PyTorch model that another prediction may lack.

        These are boxes that one of its boxes with no lower score suppresses, and boxes whose score
        is the last one that ``nms_pre`` keeps.

        Args:
            expected: The PyTorch model's prediction.
            rows: Indices of the boxes to check.
            actual: The exported file's prediction.
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
    """The boxes of an SSD detector before suppression, decoded by mmdet.

    Args:
        model: The PyTorch model.
        inputs: (1, 3, H, W), from the data preprocessor.
        sample: Its data sample.

    Returns:
        The ties, or None for other models.
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
    """IoU (N, M) of boxes (N, 4) and (M, 4); it is 1 for two equal boxes without an area."""
    first, second = first.double(), second.double()
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(side[:, 2:] - side[:, :2]).prod(-1) for side in (first, second)]
    union = areas[0][:, None] + areas[1][None] - both
    same = (first[:, None] == second[None]).all(-1)
    return torch.where(same, torch.ones_like(both), both / union.clamp(min=1e-12))
