"""The NMS family of ``mmcv._ext`` in NumPy, with the results of the compiled ops.

They run on one thread of the CPU: greedy suppression is a chain of small decisions, and copying a
tensor from another device is faster than deciding there. Legend: N boxes of 4 numbers (x1, y1, x2,
y2); K boxes of higher score compared with R of lower score. A pair whose IoU is NaN (both areas
zero, or a NaN coordinate) never suppresses. Equal scores have the order of ``Tensor.sort``. The
compiled ops only take float32; these also take float64, and compute half precision in float32.
"""

from typing import List

import numpy as np
import torch
from torch import Tensor

# Boxes decided together, and boxes of lower score compared with them at a time: large enough to
# hide Python's overhead, small enough for the CPU's caches. tools/benchmark/nms.py measures it.
_BLOCK = 128
_CHUNK = 512


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: Boxes in pixels, shape (N, 4).
        scores: Scores, shape (N, ).
        iou_threshold: A box is dropped if its IoU with a kept box is above this.
        offset: 0 or 1; a box's width is ``x2 - x1 + offset``.

    Returns:
        Indices of the kept boxes by descending score, int64, shape (number kept, ), on the device
        of ``boxes``.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    order = _by_score(scores)
    rest = _with_areas(boxes, offset)[:, order]
    kept = []
    while order.size:
        block, rest = rest[:, :_BLOCK], rest[:, _BLOCK:]
        winners = _decide_block(_iou(block, block, offset) > iou_threshold)
        kept.append(order[:_BLOCK][winners])
        alive = ~_suppressed(block[:, winners], rest, iou_threshold, offset)
        order, rest = order[_BLOCK:][alive], rest[:, alive]
    return torch.from_numpy(np.concatenate(kept)).to(boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> List[List[int]]:
    """Group each kept box with the boxes that it suppresses.

    Args:
        dets: Boxes and scores, shape (N, 5).
        iou_threshold: A box joins a kept box's group if their IoU is at least this.

    Returns:
        One list of indices for each kept box, by descending score, itself first.
    """
    order = _by_score(dets[:, 4])
    rest = _with_areas(dets[:, :4], offset=0)[:, order]
    groups = []
    while order.size:
        matched = (_iou(rest[:, :1], rest[:, 1:], offset=0) >= iou_threshold)[0]
        groups.append([int(order[0]), *order[1:][matched].tolist()])
        order, rest = order[1:][~matched], rest[:, 1:][:, ~matched]
    return groups


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, *, iou_threshold: float, sigma: float,
            min_score: float, method: int, offset: int) -> Tensor:
    """Soft-NMS (arXiv 1704.04503).

    Args:
        boxes: Boxes in pixels, shape (N, 4).
        scores: Scores, shape (N, ).
        dets: Filled with boxes and lowered scores, in the order of the result, shape (N, 5).
        iou_threshold: Scores are lowered from this IoU on (methods 0 and 1).
        sigma: Width of the Gaussian (method 2).
        min_score: A box whose lowered score falls below this is dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 0 or 1; a box's width is ``x2 - x1 + offset``.

    Returns:
        Indices of the boxes left, int64, shape (number left, ).
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    table = _with_areas(boxes, offset)
    lowered = scores.detach().cpu().numpy().astype(table.dtype)
    order = np.arange(len(boxes))
    i = 0
    while i < len(order):
        top = i + _first_largest(lowered[i:])
        for state in (table, lowered, order):
            state[..., [i, top]] = state[..., [top, i]]
        iou = _iou(table[:, i:i + 1], table[:, i + 1:], offset)[0]
        lowered[i + 1:] *= _weight(iou, iou_threshold, sigma, method)
        stays = ~(lowered[i + 1:] < min_score)
        if not stays.all():
            left = np.concatenate([np.arange(i + 1), i + 1 + _fill_holes(stays)])
            table, lowered, order = table[:, left], lowered[left], order[left]
        i += 1
    dets[:len(order)] = torch.from_numpy(np.vstack([table[:4], lowered]).T).to(dets)
    return torch.from_numpy(order)


def _by_score(scores: Tensor) -> np.ndarray:
    return scores.detach().cpu().sort(0, descending=True)[1].numpy()


def _with_areas(boxes: Tensor, offset: int) -> np.ndarray:
    """(N, 4) boxes as (5, N): x1, y1, x2, y2, area."""
    boxes = boxes.detach().cpu().to(torch.promote_types(boxes.dtype, torch.float32))
    x1, y1, x2, y2 = boxes.numpy().T
    return np.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)])


def _iou(a: np.ndarray, b: np.ndarray, offset: int) -> np.ndarray:
    """IoU of each of (5, K) with each of (5, R), in the compiled op's order of operations: (K, R).

    In place if possible: memory takes the time, not arithmetic.
    """
    ax1, ay1, ax2, ay2, a_area = a[:, :, None]
    bx1, by1, bx2, by2, b_area = b
    with np.errstate(all='ignore'):  # the module's docstring covers 0 / 0 and infinite boxes
        inter = _overlap(ax1, bx1, ax2, bx2, offset)
        inter *= _overlap(ay1, by1, ay2, by2, offset)
        union = a_area + b_area
        union -= inter
        return np.divide(inter, union, out=inter)


def _overlap(a_start: np.ndarray, b_start: np.ndarray, a_end: np.ndarray, b_end: np.ndarray,
             offset: int) -> np.ndarray:
    """Common length of intervals, zero if they are disjoint: (K, R)."""
    length = np.minimum(a_end, b_end)
    length -= np.maximum(a_start, b_start)
    if offset:
        length += offset
    return np.maximum(length, 0, out=length)


def _suppressed(winners: np.ndarray, rest: np.ndarray, iou_threshold: float,
                offset: int) -> np.ndarray:
    """Which of the (5, R) boxes the (5, K) kept ones suppress: (R, ), bool."""
    result = np.empty(rest.shape[1], dtype=bool)
    for start in range(0, result.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        (_iou(winners, rest[:, part], offset) > iou_threshold).any(0, out=result[part])
    return result


def _decide_block(suppresses: np.ndarray) -> List[int]:
    """Which boxes of one block stay, given the (B, B) matrix 'row suppresses column'.

    A row is one Python integer with a bit per column, so the sequential part of NMS takes one
    operation per box. Bits below the diagonal are harmless: those boxes are already decided.
    """
    rows = np.packbits(suppresses, axis=1, bitorder='little')
    dropped, winners = 0, []
    for i, row in enumerate(rows):
        if not dropped >> i & 1:
            winners.append(i)
            dropped |= int.from_bytes(row.tobytes(), 'little')
    return winners


def _first_largest(scores: np.ndarray) -> int:
    """Position of the first largest score; a leading NaN counts as largest, a later one never."""
    if np.isnan(scores[0]):
        return 0
    return int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))


def _weight(iou: np.ndarray, iou_threshold: float, sigma: float, method: int) -> np.ndarray:
    if method == 0:
        return np.where(iou >= iou_threshold, iou.dtype.type(0), iou.dtype.type(1))
    if method == 1:
        return np.where(iou >= iou_threshold, 1 - iou, iou.dtype.type(1))
    # exp() in float64, then rounded: nearly always equal to the C library's float exp.
    return np.exp((-(iou * iou) / sigma).astype(np.float64)).astype(iou.dtype)


def _fill_holes(stays: np.ndarray) -> np.ndarray:
    """The new order, as positions, after dropping boxes that do not stay.

    The compiled op moves the last box to the place of a dropped one: the order of equal scores, and
    so the result, depends on this.
    """
    count = int(stays.sum())
    order = np.arange(count)
    order[~stays[:count]] = (count + np.flatnonzero(stays[count:]))[::-1]
    return order
