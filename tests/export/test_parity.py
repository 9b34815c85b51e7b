"""What the comparison of two predictions accepts and what it detects."""

import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from mobileone_mm.export import ParityError
from mobileone_mm.export.parity import FLOAT16, FLOAT32, Pair, compare


def boxes(count=40):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 300
    return InstanceData(
        bboxes=torch.cat([corners, corners + 20 + torch.rand(count, 2, generator=generator)], 1),
        scores=torch.linspace(.9, .1, count), labels=torch.arange(count) % 3)


def parity(expected, actual, limits=FLOAT32, **options):
    kind = 'pred_instances' if isinstance(expected, InstanceData) else 'pred_sem_seg'
    pair = [BaseDataElement(**{kind: side}) for side in (expected, actual)]
    return compare([Pair('picture', *pair)], limits, **options)


def test_order_and_rounding_do_not_matter():
    expected, actual = boxes(), boxes()[torch.randperm(40)]
    actual.scores += 1e-5
    actual.bboxes += 1e-3
    result = parity(expected, actual)
    result.check()
    assert result.objects == 40 and .999 < result.worst['boxes'][0] < 1
    assert result.worst['scores'][0] == pytest.approx(1e-5, rel=.1)


def _move(found):
    found.bboxes[7] += 1.


def _score(found):
    found.scores[7] += 2e-3


def _label(found):
    found.labels[7] += 1


def _nan(found):
    found.bboxes[7] = float('nan')


@pytest.mark.parametrize('change, worst', [
    (_move, 'boxes'), (_score, 'scores'), (_label, 'labels'), (_nan, '(boxes|scores)')])
def test_one_wrong_box_is_named(change, worst):
    actual = boxes()
    change(actual)
    with pytest.raises(ParityError, match=f"Worst tensor: output '{worst}'.* on picture"):
        parity(boxes(), actual).check()


@pytest.mark.parametrize('swap', [False, True])
def test_a_missing_or_an_additional_box_is_found(swap):
    pair = [boxes(), boxes()[:-1]]
    with pytest.raises(ParityError, match="'labels': 1 boxes"):
        parity(*(pair[::-1] if swap else pair)).check()


@pytest.mark.parametrize('options', [dict(score_floor=.1), dict(limit_boxes=39)])
def test_at_a_threshold_a_box_may_be_in_one_answer_only(options):
    parity(boxes(), boxes()[:-1], **options).check()
    with pytest.raises(ParityError):
        parity(boxes(), boxes()[1:], **options).check()


def test_half_precision_may_turn_round_a_few_suppressions():
    few, many = boxes(), boxes()
    few.bboxes[:1] += 30
    many.bboxes[:8] += 30
    parity(boxes(), few, FLOAT16).check()
    with pytest.raises(ParityError):
        parity(boxes(), many, FLOAT16).check()
    with pytest.raises(ParityError):
        parity(boxes(), few).check()


def test_answers_without_boxes_prove_nothing():
    with pytest.raises(ParityError, match='nothing was compared: no maps, and no box reaches'):
        parity(boxes(0), boxes(0)).check()
    with pytest.raises(ParityError, match="'labels': 3 boxes"):
        parity(boxes(0), boxes(3)).check()
    empty = BaseDataElement(pred_instances=boxes(0))
    result = compare([Pair('picture', empty, empty, maps=1e-5)], FLOAT32)
    result.check()
    assert 'NO BOXES WERE COMPARED' in str(result) and 'IoU' not in str(result)
    for maps, message in ((2e-2, 'differ by 2.0e-02'), (float('nan'), 'are not finite')):
        with pytest.raises(ParityError, match=f'Worst tensor: maps before argmax .* {message}'):
            compare([Pair('picture', empty, empty, maps=maps)], FLOAT32).check()


@pytest.mark.parametrize('wrong, fails', [(9, False), (11, True)])
def test_label_maps_may_differ_in_a_thousandth(wrong, fails):
    expected = torch.zeros(1, 100, 100, dtype=torch.long)
    actual = expected.clone()
    actual.view(-1)[:wrong] = 1
    result = parity(PixelData(data=expected), PixelData(data=actual))
    assert bool(result.problems()) is fails
    with pytest.raises(ParityError, match="'label map'"):
        parity(PixelData(data=expected), PixelData(data=expected[:, :50])).check()
