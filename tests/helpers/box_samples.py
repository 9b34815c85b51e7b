"""Boxes for tests of NMS: random ones, and those with ties, without area, or not finite."""

import torch

from mobileone_mm.benchmark.boxes import clustered


def _tied():
    boxes, scores = clustered(400)
    return boxes, (scores * 5).floor() / 5


def _identical():
    return torch.tensor([[2., 3., 9., 8.]]).repeat(300, 1), torch.full((300, ), 0.5)


def _zero_area():
    boxes, scores = clustered(200)
    boxes[::3, 2:] = boxes[::3, :2]  # points
    boxes[1::3, 2] = boxes[1::3, 0]  # lines
    boxes[100:] = boxes[:100]  # each twice: 0 / 0
    return boxes, scores


def _inverted():
    boxes, scores = clustered(100)
    boxes[::2] = boxes[::2, [2, 3, 0, 1]]
    return boxes, scores


def _integers():
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(0, 20, (400, 2), generator=generator)
    end = start + torch.randint(0, 12, (400, 2), generator=generator)
    return torch.cat([start, end], 1).float(), torch.rand(400, generator=generator)


def _not_finite():
    boxes, scores = clustered(60)
    boxes[5], boxes[7, 2], boxes[11, 0] = float('nan'), float('inf'), float('nan')
    return boxes, scores


SAMPLES = dict(
    empty=lambda: (torch.empty(0, 4), torch.empty(0)),
    one=lambda: clustered(1),
    random=lambda: clustered(300),
    tied=_tied,
    identical=_identical,
    zero_area=_zero_area,
    inverted=_inverted,
    integers=_integers,
    not_finite=_not_finite,
)
