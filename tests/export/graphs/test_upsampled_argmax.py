"""Compare upsampling with matrix products and the best class with PyTorch's interpolation."""

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.export.graphs.upsampled_argmax import (
    PICKS,
    WEIGHT_STEPS,
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


@pytest.mark.parametrize('align_corners, limit, share', [(False, 1, .99), (True, 16, .98)])
@pytest.mark.parametrize('classes', [33, 150, 256])
def test_the_largest_key_is_the_best_class_up_to_its_steps(align_corners, limit, share,
                                                             classes):
    """A step is one part in ``steps`` of the range; other strides also round the weights."""
    logits = torch.randn(2, classes, 6, 5) * torch.tensor([1., 50.]).view(2, 1, 1, 1)
    size = (96, 80)
    scores = F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)
    labels = upsampled_argmax(logits, size, align_corners, 'max')
    assert labels.dtype == torch.int64
    steps = 2 ** 24 / (2 ** (classes - 1).bit_length() * WEIGHT_STEPS) - 1
    step = (logits.amax((1, 2, 3)) - logits.amin((1, 2, 3))) / steps
    loss = scores.max(1)[0] - scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert (loss.amax((1, 2)) <= limit * 1.01 * step).all()
    assert (labels == scores.argmax(1)).float().mean() > share


@pytest.mark.parametrize('pick', PICKS)
def test_it_can_be_traced(pick):
    def labels(logits):
        return upsampled_argmax(logits, [8 * length for length in logits.shape[2:]], pick=pick)

    traced = torch.jit.trace(labels, torch.randn(1, 40, 4, 4))
    other = torch.randn(2, 40, 4, 4)
    assert torch.equal(traced(other), labels(other))


def test_equal_logits_are_of_the_first_class():
    logits = torch.full((1, 40, 4, 4), 3.)
    assert not upsampled_argmax(logits, (8, 8), pick='max').any()
    logits[:, [17, 30]] = 4.
    assert (upsampled_argmax(logits, (8, 8), pick='max') == 17).all()


def test_the_other_alignment_fails():
    logits = torch.randn(2, 9, 6, 5)
    labels = upsampled_argmax(logits, (48, 40), align_corners=True)
    scores = F.interpolate(logits, size=(48, 40), mode='bilinear', align_corners=False)
    assert (labels == scores.argmax(1)).float().mean() < .99
