"""Non-maximum suppression as one ONNX operator."""

from typing import Any

import torch
from torch import Tensor


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float,
                score_threshold: float, limit: int) -> Tensor:
    """Suppress boxes of the same class and mark those that remain.

    Like mmcv's ``batched_nms``, it moves the classes apart, so one pass handles all of them.

    Args:
        boxes: (N, M, 4) as x1, y1, x2, y2.
        scores: (N, M).
        labels: (N, M), int64.
        iou_threshold: A box is dropped if its IoU with a better one is larger.
        score_threshold: A box is dropped if its score is this or lower.
        limit: Largest number of boxes that remain in an image.

    Returns:
        (N, M), 1 for boxes that remain and 0 for the rest.
    """
    apart = labels.to(boxes.dtype) * (boxes.amax(dim=(1, 2), keepdim=True).squeeze(-1) + 1)
    selected = NonMaxSuppression.apply(
        boxes + apart.unsqueeze(-1), scores.unsqueeze(1), limit, iou_threshold, score_threshold)
    ones = torch.ones_like(selected[:, 0], dtype=scores.dtype)
    return torch.zeros_like(scores).index_put((selected[:, 0], selected[:, 2]), ones)


class NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of the same name; in PyTorch, mmcv's ``nms``."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, limit: int, iou_threshold: float,
                score_threshold: float) -> Tensor:
        """Indices (S, 3), int64: image, class (always 0) and box.

        Args:
            ctx: Not used.
            boxes: (N, M, 4).
            scores: (N, 1, M).
            limit: Largest number of boxes in an image.
            iou_threshold: See :func:`batched_nms`.
            score_threshold: See :func:`batched_nms`.
        """
        from mmcv.ops import nms
        rows = []
        for image, (own_boxes, own_scores) in enumerate(zip(boxes, scores[:, 0])):
            above = (own_scores > score_threshold).nonzero().squeeze(1)
            if above.numel():
                keep = above[nms(own_boxes[above], own_scores[above], iou_threshold)[1][:limit]]
                rows += [(image, 0, int(box)) for box in keep]
        return torch.tensor(rows, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, limit: int,  # noqa: D102
                 iou_threshold: float, score_threshold: float) -> Any:
        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op('Constant', value_t=torch.tensor([value], dtype=dtype))
        return g.op('NonMaxSuppression', boxes, scores, constant(limit, torch.int64),
                    constant(iou_threshold, torch.float32),
                    constant(score_threshold, torch.float32))
