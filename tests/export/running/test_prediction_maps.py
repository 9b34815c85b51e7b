"""Find the tensors of a graph that are its predictions, and match them."""

import math

import numpy as np
import pytest
import torch

from mobileone_mm.export.running.prediction_maps import Node, last_convolutions, match_maps


def test_the_convolutions_that_no_other_reads():
    graph = [
        Node(['image'], ['a'], True), Node(['a'], ['b'], False), Node(['b'], ['scores'], True),
        Node(['b'], ['c'], True), Node(['c'], ['deltas'], True), Node(['scores'], ['d'], False),
        Node(['d', 'deltas'], ['boxes'], False)]
    assert last_convolutions(graph) == ['scores', 'deltas']


def maps():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 8, size, size, generator=generator) for size in (4, 4, 1)]


def arrays():
    return [item.numpy() for item in maps()]


def test_maps_in_any_order_without_axes_of_length_one():
    first, second, third = arrays()
    assert match_maps(maps(), [third.reshape(8), second[0], first]) == 0
    second[0, 3] += .1
    assert match_maps(maps(), [third, second, first]) == pytest.approx(
        .1 / np.abs(arrays()[1]).max())


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_one_that_is_not_finite_is_seen_on_either_side(value):
    actual, expected = arrays(), maps()
    actual[1][0, 0, 0, 0] = value
    assert math.isnan(match_maps(maps(), actual))
    expected[1][0, 0, 0, 0] = value
    assert math.isnan(match_maps(expected, arrays()))


def test_other_shapes_are_an_error():
    with pytest.raises(ValueError, match='its last convolutions return maps of shapes'):
        match_maps(maps(), arrays()[:2])
