"""Turn an SSD network's two outputs into boxes, in plain NumPy.

Shapes: P anchors over all levels, A of them per cell, C classes, M pairs of anchor and class, K
boxes that remain. Boxes are x1, y1, x2, y2 in pixels of the network's input.

``settings`` holds ``decode`` and ``thresholds`` from the .json file: ``size`` (height, width of the
input); ``levels`` with the ``size``, the ``stride`` (x, y) and the ``anchors`` (A, 4) of the first
cell for each feature map; ``means`` and ``stds`` of the deltas, ``clip`` (to the image);
``score_thr``, ``nms_pre`` (pairs per level; -1: all), ``min_bbox_size`` (-1: any),
``iou_threshold`` and ``max_per_img``.
"""

from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np

MAX_LOG_RATIO = 4.135166556742356  # log(1000 / 16): the limit of a box's size over its anchor's


def detections(scores: np.ndarray, deltas: np.ndarray, settings: Mapping[str, Any]
               ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of one image, best first, as mmdet's ``SSDHead`` predicts them.

    Args:
        scores: (P, C), softmax without the background.
        deltas: (P, 4) as dx, dy, dw, dh.
        settings: See the module's docstring.

    Returns:
        Boxes (K, 4), scores (K, ) and labels (K, ).
    """
    return select(scores, decode(deltas, grid(settings['levels']), settings), settings)


def select(scores: np.ndarray, boxes: np.ndarray, settings: Mapping[str, Any]
           ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See :func:`detections`, for decoded boxes (P, 4)."""
    anchor, labels = candidates(scores, settings)
    boxes, scores = boxes[anchor], scores[anchor, labels]
    large = (boxes[:, 2:] - boxes[:, :2] > settings['min_bbox_size']).all(1)
    boxes, scores, labels = boxes[large], scores[large], labels[large]
    keep = suppress(boxes, scores, labels, settings['iou_threshold'], settings['max_per_img'])
    return boxes[keep], scores[keep], labels[keep]


def grid(levels: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The anchors (P, 4): level by level, row by row, cell by cell."""
    anchors = []
    for level in levels:
        y, x = np.indices(level['size'], dtype=np.float32)
        x, y = x * level['stride'][0], y * level['stride'][1]
        corners = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)  # the cells' corners
        anchors.append((corners + np.asarray(level['anchors'], np.float32)).reshape(-1, 4))
    return np.concatenate(anchors)


def decode(deltas: np.ndarray, anchors: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Boxes (P, 4) from deltas (P, 4): centers shift by anchor sizes, sizes scale by exp."""
    means, stds = (np.array(settings[key], np.float32) for key in ('means', 'stds'))
    deltas = deltas * stds + means
    centers, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    centers = centers + sizes * deltas[:, :2]
    halves = sizes * np.exp(deltas[:, 2:].clip(-MAX_LOG_RATIO, MAX_LOG_RATIO)) / 2
    boxes = np.concatenate([centers - halves, centers + halves], 1)
    height, width = settings['size']
    border = np.array([width, height, width, height], np.float32)
    return boxes.clip(0, border) if settings['clip'] else boxes


def candidates(scores: np.ndarray, settings: Mapping[str, Any]) -> Tuple[np.ndarray, np.ndarray]:
    """Anchors (M, ) and labels (M, ) above the threshold: only the best ones of each level."""
    limit = settings['nms_pre']
    anchors, labels, start = [], [], 0
    for level in settings['levels']:
        length = level['size'][0] * level['size'][1] * len(level['anchors'])
        part = scores[start:start + length]
        anchor, label = np.nonzero(part > settings['score_thr'])
        order = np.argsort(-part[anchor, label], kind='stable')[:None if limit < 0 else limit]
        anchors.append(anchor[order] + start)
        labels.append(label[order])
        start += length
    return np.concatenate(anchors), np.concatenate(labels)


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float,
             limit: int) -> np.ndarray:
    """Indices (K, ) of the boxes that greedy non-maximum suppression per class keeps."""
    order = np.argsort(-scores, kind='stable')
    keep: List[int] = []
    while order.size and len(keep) < limit:
        best, rest = order[0], order[1:]
        keep.append(best)
        overlaps = iou(boxes[best], boxes[rest]) > iou_threshold
        order = rest[~(overlaps & (labels[rest] == labels[best]))]
    return np.array(keep, dtype=int)


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (M, ) of a box (4, ) and others (M, 4)."""
    shared = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0)
    intersection = shared.prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - intersection
    return intersection / np.maximum(union, np.finfo(union.dtype).tiny)
