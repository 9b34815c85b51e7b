"""Compare an exported file's predictions with the PyTorch model's."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from mmengine.structures import InstanceData
from torch import Tensor

from .errors import ParityError
from .ties import Ties, ious


class Limits(NamedTuple):
    """Limits of the comparison.

    Attributes:
        iou: Smallest IoU of a box and its match.
        score: Largest difference of their scores.
        pixels: Smallest share of equal pixels.
        maps: Largest difference of a map before argmax or suppression, relative to its largest
            value.
        share: Share of an image's boxes that must meet the first two limits.
    """

    iou: float
    score: float
    pixels: float
    maps: float
    share: float = 1.


FLOAT32 = Limits(iou=.99, score=1e-3, pixels=.999, maps=1e-2)
# Half precision rounds weights and activations to 11 bits. Scores change in the third digit, which
# may swap the order of two boxes and so change which of them suppresses the other.
FLOAT16 = Limits(iou=.9, score=3e-2, pixels=.99, maps=.1, share=.95)


class Pair(NamedTuple):
    """Two predictions for one picture.

    Attributes:
        image: Name of the picture.
        expected: The PyTorch model's data sample.
        actual: The exported model's data sample.
        maps: The difference of their maps before argmax or suppression, relative to the largest
            value; None if they cannot be compared.
        note: Why they cannot be compared.
        ties: Finds other valid predictions of the PyTorch model; returns None if unknown.
    """

    image: str
    expected: Any
    actual: Any
    maps: Optional[float] = None
    note: str = ''
    ties: Callable[[], Optional[Ties]] = lambda: None


@dataclass
class Parity:
    """The worst value of each output over all images.

    Attributes:
        limits: Limits of the comparison.
        worst: The worst value of each output, and its image.
        images: Number of images compared.
        objects: Number of matched boxes, or pixels.
        exchanged: Number of boxes that the other prediction replaces with boxes of equal scores.
        note: Why the maps were not compared, if they were not.
    """

    limits: Limits
    worst: Dict[str, Tuple[float, str]]
    images: int = 0
    objects: int = 0
    exchanged: int = 0
    note: str = ''

    def problems(self) -> List[str]:
        """Descriptions of values beyond the limits: the worst output first, the maps last."""
        found = []
        for name, (value, image) in self.worst.items():
            excess = _excess(name, value, self.limits)
            if not excess <= 1:  # catches NaN too, the worst of all
                output = '' if name == 'maps' else f'output {name!r}: '
                found.append((name != 'maps', excess if excess > 1 else float('inf'),
                              f'{output}{_describe(name, value, self.limits)} on {image}'))
        return [text for *_, text in sorted(found, key=lambda item: item[:2], reverse=True)]

    def check(self) -> None:
        """Check the values against the limits.

        Raises:
            ParityError: A value is beyond its limit (the message names the worst output tensor), or
                nothing was compared.
        """
        problems = self.problems()
        if not problems and not self.objects and 'maps' not in self.worst:
            raise ParityError(f'nothing was compared: {self.note or "no maps"}, and no box reaches '
                              'test_cfg.score_thr; use a picture with objects, or a lower '
                              'threshold')
        if problems:
            raise ParityError('the exported model and the PyTorch model give different results. '
                              f'Worst tensor: {"; then ".join(problems)}')

    def __str__(self) -> str:
        values = [_describe(name, value, self.limits) for name, (value, _) in self.worst.items()]
        if not self.objects:
            values.append('no score is clearly above the threshold: NO BOXES WERE COMPARED')
        if self.exchanged:
            values.append(f'{self.exchanged} boxes are replaced by others of equal scores')
        if self.note:
            values.append(f'NOT COMPARED before suppression or argmax: {self.note}')
        return f'{self.images} images, {self.objects:,} boxes or pixels: {"; ".join(values)}'


def compare(pairs: Iterable[Pair], limits: Limits, score_floor: float = 0.,
            limit_boxes: int = 0) -> Parity:
    """Compare the PyTorch model's predictions with an exported model's.

    Args:
        pairs: The predictions.
        limits: Limits of the comparison.
        score_floor: ``test_cfg.score_thr``: a box whose score is within ``limits.score`` of it
            may be missing from one prediction.
        limit_boxes: ``test_cfg.max_per_img``: if this many boxes are found, the same holds for
            the last score.
    """
    parity = Parity(limits, {})
    for pair in pairs:
        if 'pred_instances' in pair.expected:
            sides = pair.expected.pred_instances, pair.actual.pred_instances
            floor = _floor(*sides, score_floor, limit_boxes)
            values, count, exchanged = compare_boxes(*sides, floor + limits.score, limits,
                                                     pair.ties)
            parity.exchanged += exchanged
        else:
            values, count = compare_labels(pair.expected.pred_sem_seg.data,
                                           pair.actual.pred_sem_seg.data)
        if pair.maps is not None:
            values['maps'] = pair.maps
        parity.note = pair.note or parity.note
        parity.images, parity.objects = parity.images + 1, parity.objects + count
        for output, value in values.items():
            known = parity.worst.get(output)
            if known is None or not _excess(output, value, limits) <= _excess(
                    output, known[0], limits):
                parity.worst[output] = (value, pair.image)
    return parity


def compare_boxes(expected: InstanceData, actual: InstanceData, least: float, limits: Limits,
                  ties: Callable[[], Optional[Ties]] = lambda: None
                  ) -> Tuple[Dict[str, float], int, int]:
    """Match boxes of the same class one to one, starting with the largest IoU.

    Args:
        expected: ``bboxes`` (N, 4), ``scores`` (N, ) and ``labels`` (N, ).
        actual: The same, for M boxes.
        least: Boxes with a lower score need no match, but may be one.
        limits: Limits of the comparison; ``limits.share`` excludes the worst boxes.
        ties: Called if boxes have no match, see :class:`Pair`.

    Returns:
        A dict with 'labels', the number of boxes without a match of their class, and, if there are
        pairs, 'boxes', their smallest IoU, and 'scores', their largest score difference; the
        number of pairs; the number of boxes replaced by others of equal scores.
    """
    overlaps = ious(expected.bboxes, actual.bboxes)
    overlaps[expected.labels[:, None] != actual.labels[None]] = -1
    closeness = (expected.scores[:, None] - actual.scores[None]).abs()
    matches = _match(overlaps, closeness)
    unlike = {row for row, column in matches.items()
              if overlaps[row, column] < limits.iou or closeness[row, column] > limits.score}
    taken = set(matches.values())
    rows = [row for row in range(len(expected.scores))
            if expected.scores[row] >= least and (row not in matches or row in unlike)]
    columns = [column for column in range(len(actual.scores))
               if actual.scores[column] >= least and column not in taken]
    columns += [matches[row] for row in unlike]
    known = ties() if rows or columns else None
    exchanged = set()
    if known is not None:
        possible = known.possible(actual, columns, limits.iou, limits.score)
        columns = [column for column in columns if column not in possible]
        exchanged = known.dispensable(expected, rows, actual, limits.score)
        exchanged -= {row for row in exchanged if matches.get(row) in columns}
        rows = [row for row in rows if row not in exchanged]
    # Pairs that ties do not explain are judged like all others.
    alone = max(sum(row not in matches for row in rows),
                sum(column not in taken for column in columns))
    pairs = [(row, column) for row, column in matches.items()
             if expected.scores[row] >= least and row not in exchanged]
    spare = int((1 - limits.share) * len(pairs))
    lone = dict(labels=float(max(alone - spare, 0)))
    if not all(bool(side.isfinite().all()) for side in (actual.bboxes, actual.scores)):
        return dict(lone, boxes=float('nan'), scores=float('nan')), len(pairs), len(exchanged)
    if not pairs:
        return lone, 0, len(exchanged)
    index = tuple(zip(*pairs))
    return dict(lone, boxes=float(overlaps[index].sort().values[spare]),
                scores=float(closeness[index].sort(descending=True).values[spare])
                ), len(pairs), len(exchanged)


def _match(overlaps: Tensor, closeness: Tensor) -> Dict[int, int]:
    """Map rows to matching columns for overlaps (N, M) of at least 0.5, the largest first."""
    # Of equal overlaps (duplicates), the one with the closer score wins.
    order = (overlaps - closeness * 1e-3).flatten().argsort(descending=True).tolist()
    matches: Dict[int, int] = {}
    taken = set()
    for index in order:
        row, column = divmod(index, overlaps.shape[1])
        if overlaps[row, column] < .5:
            break
        if row not in matches and column not in taken:
            matches[row] = column
            taken.add(column)
    return matches


def compare_labels(expected: Tensor, actual: Tensor) -> Tuple[Dict[str, float], int]:
    """The share of equal pixels of two label maps, as 'label map', and the number of pixels."""
    if expected.shape != actual.shape:
        return {'label map': 0.}, 0
    return {'label map': float((expected == actual).double().mean())}, expected.numel()


def _floor(expected: InstanceData, actual: InstanceData, score_floor: float, limit: int) -> float:
    full = [side.scores.min().item() for side in (expected, actual)
            if limit and len(side.scores) >= limit]
    return max([score_floor, *full])


def _excess(name: str, value: float, limits: Limits) -> float:
    """The distance of a value from perfect, in units of its limit."""
    if name == 'boxes':
        return (1 - value) / (1 - limits.iou)
    if name == 'scores':
        return value / limits.score
    if name == 'label map':
        return (1 - value) / (1 - limits.pixels)
    if name == 'maps':
        return value / limits.maps
    return value * 2  # labels: every box needs a match


def _describe(name: str, value: float, limits: Limits) -> str:
    of_share = '' if limits.share == 1 else f' of {100 * limits.share:.0f} % of the boxes'
    return {
        'boxes': f'smallest IoU {value:.5f}{of_share} (>= {limits.iou})',
        'scores': f'largest score difference {value:.1e}{of_share} (<= {limits.score})',
        'labels': f'{value:.0f} boxes too many have no match of their class (0)',
        'maps': (f'maps before argmax or suppression differ by {value:.1e} of their largest value '
                 f'(<= {limits.maps})') if value == value else
                'maps before argmax or suppression are not finite',
        'label map': f'{100 * value:.3f} % of pixels are equal (>= {100 * limits.pixels} %)',
    }[name]
