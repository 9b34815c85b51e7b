"""Compare upsampling with matrix products and the best class with PyTorch's interpolation."""

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.export.graphs.upsampled_argmax import (
    PICKS,
    interpolation_matrix,
    upsampled_argmax,
)

SIZES = [((5, 7), (40, 33)), ((32, 32), (512, 512)), ((1, 3), (1, 9)), ((6, 6), (4, 5))]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(('inner', 'outer'), SIZES)
def test_matrix_interpolates(inner, outer, align_corners):
    maps = torch.randn(2, 3, *inner)
    expected = F.interpolate(maps, size=outer, mode='bilinear', align_corners=align_corners)
    rows, columns = (interpolation_matrix(i, o, align_corners) for i, o in zip(inner, outer))
    assert torch.allclose(rows @ maps @ columns.T, expected, atol=3e-6)


@pytest.mark.parametrize('pick', PICKS)
@pytest.mark.parametrize('align_corners', [False, True])
def test_labels_are_those_of_interpolation_and_argmax(pick, align_corners):
    logits = torch.randn(2, 9, 6, 5)
    size = (48, 40)
    scores = F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)
    labels = upsampled_argmax(logits, size, align_corners, pick)
    assert labels.dtype == torch.int64
    best = scores.max(1)[0]
    # Rounding may decide between classes that tie.
    picked = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert (best - picked).max() < 3e-6
    assert (labels == scores.argmax(1)).float().mean() > .999


def test_the_other_alignment_fails():
    logits = torch.randn(2, 9, 6, 5)
    labels = upsampled_argmax(logits, (48, 40), align_corners=True)
    scores = F.interpolate(logits, size=(48, 40), mode='bilinear', align_corners=False)
    assert (labels == scores.argmax(1)).float().mean() < .99
