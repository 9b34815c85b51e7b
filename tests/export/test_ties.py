"""Boxes of equal scores: either may suppress the other, but nothing else may change."""

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from mobileone_mm.export.errors import ParityError
from mobileone_mm.export.parity import FLOAT32, Pair, compare
from mobileone_mm.export.ties import Ties, ious

IOU_THRESHOLD = .45


def candidates(count=300, spread=1e-6):
    """Crowded anchors of one size and two classes, with nearly equal scores."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 120
    return InstanceData(
        bboxes=torch.cat([corners, corners + 30], 1), labels=torch.arange(count) % 2,
        scores=.3 + spread * torch.rand(count, generator=generator))


def suppress(boxes, seed, noise=1e-6):
    """Greedy suppression per class, in the order of scores with random rounding."""
    rounding = torch.randn(len(boxes.scores), generator=torch.Generator().manual_seed(seed))
    keep = []
    for index in (boxes.scores + noise * rounding).argsort(descending=True).tolist():
        same = [k for k in keep if boxes.labels[k] == boxes.labels[index]]
        if not same or ious(boxes.bboxes[index][None], boxes.bboxes[same]).max() <= IOU_THRESHOLD:
            keep.append(index)
    return boxes[keep]


def parity(boxes, actual, cuts=(), known=True):
    pair = [BaseDataElement(pred_instances=side) for side in (suppress(boxes, 1), actual)]
    ties = Ties(boxes, cuts, IOU_THRESHOLD) if known else None
    return compare([Pair('picture', *pair, ties=lambda: ties)], FLOAT32)


def test_another_order_of_equal_scores_is_recognized():
    boxes = candidates()
    actual = suppress(boxes, 2)
    result = parity(boxes, actual)
    result.check()
    assert result.exchanged > 10 and 'boxes are replaced by others of equal scores' in str(result)
    with pytest.raises(ParityError):
        parity(boxes, actual, known=False).check()


def test_scores_that_differ_are_no_ties():
    boxes = candidates(spread=.5)
    parity(boxes, suppress(boxes, 2, noise=1e-6)).check()
    with pytest.raises(ParityError):
        parity(boxes, suppress(boxes, 2, noise=.1)).check()


def _move(actual):
    actual.bboxes += 4


def _score(actual):
    actual.scores += .1


def _label(actual):
    actual.labels = 1 - actual.labels


def _drop(actual):
    lone = ious(actual.bboxes, actual.bboxes).fill_diagonal_(0).amax(1).argmin()
    return actual[torch.arange(len(actual.scores)) != lone]


def _repeat(actual):
    return InstanceData.cat([actual, actual[:1]])


@pytest.mark.parametrize('fault', [_move, _score, _label, _drop, _repeat])
def test_ties_excuse_nothing_else(fault):
    boxes = candidates()
    actual = suppress(boxes, 2)
    actual = fault(actual) or actual
    with pytest.raises(ParityError):
        parity(boxes, actual).check()


def test_the_last_score_of_a_cut_map_is_a_tie():
    boxes = candidates()
    actual = _drop(suppress(boxes, 2))
    parity(boxes, actual, cuts=[.3]).check()
    with pytest.raises(ParityError):
        parity(boxes, actual, cuts=[.4]).check()
