"""Does an exported file answer as the PyTorch model does?"""

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .errors import ParityError


class Limits(NamedTuple):
    """What is accepted.

    Attributes:
        iou: Least overlap of a box and its partner.
        score: Largest difference of their scores.
        pixels: Least share of equal pixels.
        share: Share of an image's boxes that the first two are asked of.
    """

    iou: float
    score: float
    pixels: float
    share: float = 1.


FLOAT32 = Limits(iou=.99, score=1e-3, pixels=.999)
# Half precision rounds weights and activations to 11 bits: scores change in the third digit, which
# may turn round the order of two boxes, and so which of them suppresses the other.
FLOAT16 = Limits(iou=.9, score=3e-2, pixels=.99, share=.95)


@dataclass
class Parity:
    """The worst of each output over all images seen.

    Attributes:
        limits: What is accepted.
        worst: By output, the worst value and the image it belongs to.
        images: Number of images compared.
        objects: Number of matched boxes, or pixels.
    """

    limits: Limits
    worst: Dict[str, Tuple[float, str]]
    images: int = 0
    objects: int = 0

    def problems(self) -> List[str]:
        """What is beyond the limits, the worst first."""
        found = []
        for name, (value, image) in self.worst.items():
            excess = _excess(name, value, self.limits)
            if not excess <= 1:  # catches NaN too
                found.append((excess, f'output {name!r}: {_describe(name, value, self.limits)} '
                                      f'on {image}'))
        return [text for _, text in sorted(found, key=lambda item: item[0], reverse=True)]

    def check(self) -> None:
        """Raise ParityError, naming the worst output tensor, if anything is beyond the limits."""
        problems = self.problems()
        if problems:
            raise ParityError('the exported model does not compute what the PyTorch model '
                              f'computes. Worst tensor: {"; then ".join(problems)}')

    def __str__(self) -> str:
        values = [_describe(name, value, self.limits) for name, (value, _) in self.worst.items()]
        return f'{self.images} images, {self.objects:,} boxes or pixels: {"; ".join(values)}'


def compare(pairs: Iterable[Tuple[str, Any, Any]], limits: Limits, score_floor: float = 0.,
            limit_boxes: int = 0) -> Parity:
    """Compare the PyTorch model's data samples with an exported model's.

    Args:
        pairs: Name of the image, the PyTorch model's data sample and the exported model's.
        limits: What is accepted.
        score_floor: ``test_cfg.score_thr``: a box whose score is within ``limits.score`` of it
            may be in one answer only.
        limit_boxes: ``test_cfg.max_per_img``: where so many boxes are found, the same holds for
            the last score.
    """
    parity = Parity(limits, {})
    for name, expected, actual in pairs:
        if 'pred_instances' in expected:
            floor = _floor(expected.pred_instances, actual.pred_instances, score_floor, limit_boxes)
            values, count = compare_boxes(expected.pred_instances, actual.pred_instances,
                                          floor + limits.score, limits.share)
        else:
            values, count = compare_labels(expected.pred_sem_seg.data, actual.pred_sem_seg.data)
        parity.images, parity.objects = parity.images + 1, parity.objects + count
        for output, value in values.items():
            known = parity.worst.get(output)
            if known is None or not _excess(output, value, limits) <= _excess(
                    output, known[0], limits):
                parity.worst[output] = (value, name)
    return parity


def compare_boxes(expected: InstanceData, actual: InstanceData,
                  least: float, share: float = 1.) -> Tuple[Dict[str, float], int]:
    """Match boxes of one class one to one, the best overlap first.

    Args:
        expected: ``bboxes`` (N, 4), ``scores`` (N, ) and ``labels`` (N, ).
        actual: The same, for M boxes.
        least: Boxes with a lower score need no partner, but may be one.
        share: Leave the worst boxes out of the result, up to 1 - this share.

    Returns:
        'boxes', the least IoU of a pair; 'scores', the largest difference of a pair; 'labels', the
        number of boxes without a partner of their class. And the number of pairs.
    """
    overlaps = _ious(expected.bboxes, actual.bboxes)
    overlaps[expected.labels[:, None] != actual.labels[None]] = -1
    # Among equal overlaps (duplicates) the closer score.
    closeness = (expected.scores[:, None] - actual.scores[None]).abs()
    order = (overlaps - closeness * 1e-3).flatten().argsort(descending=True).tolist()
    partner: Dict[int, int] = {}
    taken = set()
    for index in order:
        row, column = divmod(index, len(actual.scores))
        if overlaps[row, column] < .5:
            break
        if row not in partner and column not in taken:
            partner[row] = column
            taken.add(column)
    alone = max(
        sum(score >= least and i not in partner for i, score in enumerate(expected.scores)),
        sum(score >= least and i not in taken for i, score in enumerate(actual.scores)))
    rows = [row for row in partner if expected.scores[row] >= least]
    columns = [partner[row] for row in rows]
    spare = int((1 - share) * len(rows))
    lone = float(max(int(alone) - spare, 0))
    if not all(bool(side.isfinite().all()) for side in (actual.bboxes, actual.scores)):
        return dict(boxes=float('nan'), scores=float('nan'), labels=lone), len(rows)
    if not rows:
        return dict(boxes=1., scores=0., labels=lone), 0
    return dict(boxes=float(overlaps[rows, columns].sort().values[spare]),
                scores=float(closeness[rows, columns].sort(descending=True).values[spare]),
                labels=lone), len(rows)


def compare_labels(expected: Tensor, actual: Tensor) -> Tuple[Dict[str, float], int]:
    """The share of equal pixels of two label maps, as 'label map', and the number of pixels."""
    if expected.shape != actual.shape:
        return {'label map': 0.}, 0
    return {'label map': float((expected == actual).double().mean())}, expected.numel()


def _floor(expected: InstanceData, actual: InstanceData, score_floor: float, limit: int) -> float:
    full = [side.scores.min().item() for side in (expected, actual)
            if limit and len(side.scores) >= limit]
    return max([score_floor, *full])


def _ious(first: Tensor, second: Tensor) -> Tensor:
    """IoU (N, M) of boxes (N, 4) and (M, 4); that of two equal boxes without an area is 1."""
    first, second = first.double(), second.double()
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(side[:, 2:] - side[:, :2]).prod(-1) for side in (first, second)]
    union = areas[0][:, None] + areas[1][None] - both
    same = (first[:, None] == second[None]).all(-1)
    return torch.where(same, torch.ones_like(both), both / union.clamp(min=1e-12))


def _excess(name: str, value: float, limits: Limits) -> float:
    """How far a value is from perfect, in units of what is accepted."""
    if name == 'boxes':
        return (1 - value) / (1 - limits.iou)
    if name == 'scores':
        return value / limits.score
    if name == 'label map':
        return (1 - value) / (1 - limits.pixels)
    return value * 2  # labels: none may lack a partner


def _describe(name: str, value: float, limits: Limits) -> str:
    of_share = '' if limits.share == 1 else f' of {100 * limits.share:.0f} % of the boxes'
    return {
        'boxes': f'least IoU {value:.5f}{of_share} (>= {limits.iou})',
        'scores': f'largest score difference {value:.1e}{of_share} (<= {limits.score})',
        'labels': f'{value:.0f} boxes too many without a partner of their class (0)',
        'label map': f'{100 * value:.3f} % of pixels equal (>= {100 * limits.pixels} %)',
    }[name]
