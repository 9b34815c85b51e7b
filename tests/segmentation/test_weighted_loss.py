"""The weighted loss equals torch's, even if mmsegmentation's own fails."""

import pytest
import torch
from torch import nn

pytest.importorskip('mmseg')

from mmseg.models.losses import CrossEntropyLoss  # noqa: E402

from mobileone_mm.segmentation import WeightedCrossEntropyLoss  # noqa: E402

WEIGHTS = [.5, 2., 3.]


def _batch(ignored):
    scores = torch.randn(2, 3, 5, 4, requires_grad=True)
    labels = torch.randint(3, (2, 5, 4))
    if ignored:
        labels[:, :2] = 255
    return scores, labels


@pytest.mark.parametrize('ignored', [False, True])
def test_it_is_that_of_torch(ignored):
    scores, labels = _batch(ignored)
    loss = WeightedCrossEntropyLoss(WEIGHTS, loss_weight=.4)(scores, labels)
    expected = .4 * nn.CrossEntropyLoss(torch.tensor(WEIGHTS), ignore_index=255)(scores, labels)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, scores, retain_graph=True)[0]
                                 for each in (loss, expected)))


def test_it_is_that_of_mmseg_where_nothing_is_ignored():
    scores, labels = _batch(False)
    theirs = CrossEntropyLoss(class_weight=WEIGHTS)
    torch.testing.assert_close(WeightedCrossEntropyLoss(WEIGHTS)(scores, labels),
                               theirs(scores, labels, ignore_index=255))
    with pytest.raises(IndexError):  # once this passes, ours can go
        theirs(*_batch(True), ignore_index=255)


def test_an_image_without_labels_costs_nothing():
    scores, labels = _batch(True)
    assert WeightedCrossEntropyLoss(WEIGHTS)(scores, torch.full_like(labels, 255)) == 0


def test_state_dicts_are_as_without_weights():
    assert not WeightedCrossEntropyLoss(WEIGHTS).state_dict()
