"""Which layers stay in float32, and their noise, on small graphs that are easy to follow."""

import numpy as np
import pytest

from mobileone_mm.export.errors import ExportError
from mobileone_mm.export.int8.layers import Node, Noise, kept_layers, layer_names

# An image enters a stem; two branches meet; of two heads, one reads the other's output.
GRAPH = [Node(['image'], ['normal']), Node(['normal', 'w'], ['a'], 'stem'),
         Node(['a'], ['b'], 'left'), Node(['a'], ['c'], 'right'), Node(['b', 'c'], ['d']),
         Node(['d'], ['e'], 'scores'), Node(['d'], ['f'], 'boxes')]


@pytest.mark.parametrize('keep, expected', [
    (['none'], []), (['first'], ['stem']), (['last'], ['scores', 'boxes']),
    (['last', 'first'], ['stem', 'scores', 'boxes']), (['right', 'none'], ['right'])])
def test_layers_are_kept(keep, expected):
    assert kept_layers(GRAPH, keep) == expected


def test_all_that_see_the_image_are_first():
    graph = [*GRAPH, Node(['image'], ['g'], 'other stem')]
    assert kept_layers(graph, ['first']) == ['stem', 'other stem']


def test_an_unknown_layer_is_refused():
    with pytest.raises(ExportError, match='--keep middle: expected first, last, none or the name'):
        kept_layers(GRAPH, ['first', 'middle'])


LAYERS = ['backbone.stem', 'head.convs.0', 'head.convs.1', 'head.last']


@pytest.mark.parametrize('found, expected', [
    (['graph.model.backbone.stem', 'graph.model.head.last'], ['backbone.stem', 'head.last']),
    (['stem', 'convs.1', 'convs.0'], ['backbone.stem', 'head.convs.1', 'head.convs.0']),
    (['backbone', 'head.0', 'head.1'], ['backbone.stem', 'head.convs.0', 'head.convs.1']),
    (['stem', 'stem'], ['backbone.stem', 'backbone.stem@2']),
    # The one module that is left computed both.
    (['stem', 'convs.0', 'Conv', 'Conv_1', 'last'],
     ['backbone.stem', 'head.convs.0', 'head.convs.1', 'head.convs.1@2', 'head.last']),
    (['stem', 'Conv'], ['backbone.stem', 'Conv']), (['tem'], ['tem'])])
def test_layers_have_their_modules_names_in_all_formats(found, expected):
    assert layer_names(found, LAYERS) == expected


def test_without_modules_the_names_stay():
    assert layer_names(['a', 'b', 'a'], []) == ['a', 'b', 'a@2']


def test_noise_adds_up_over_images():
    noise = Noise(2)
    for _ in range(3):
        noise.add([np.full(4, 10.), np.ones(2)], [np.full(4, 9.), np.ones(2)])
    a_tenth, none = noise.decibels()
    assert a_tenth == pytest.approx(20) and none > 100
