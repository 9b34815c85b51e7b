"""Rows of pictures have equal panels, and every label is inside its picture."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

pytest.importorskip('mmcv')

from mobileone_mm.commands.pictures import Label, Row, draw_rows  # noqa: E402

HEIGHT, WIDTH = 90, 120
SIZES = [(HEIGHT, WIDTH), (70, 120), (HEIGHT, 64)]
CORNERS = [(x, y, x + 24, y + 20) for x in (0, WIDTH // 2 - 12, WIDTH - 24)
           for y in (0, HEIGHT // 2, HEIGHT - 20)]


@pytest.fixture
def axes(tmp_path):
    """The axes of a picture with a label at each corner of the first panel."""
    labels = [Label(box, 'triangle', (1., 0., 0.)) for box in CORNERS]
    rows = [Row('row', [np.zeros((*size, 3), np.uint8) for size in SIZES], [labels, [], []])]
    figure = draw_rows(rows, tmp_path / 'x.png', 'title', 'caption', ['circle', 'square'])
    assert (tmp_path / 'x.png').stat().st_size > 1000
    return figure.axes


def test_panels_are_equal(axes):
    extents = [axis.get_window_extent() for axis in axes]
    assert len(extents) == 3
    for extent in extents[1:]:
        assert extent.width == pytest.approx(extents[0].width, abs=.5)
        assert extent.height == pytest.approx(extents[0].height, abs=.5)


def test_labels_stay_within_the_picture(axes):
    panel = axes[0].get_window_extent()
    texts = [text.get_bbox_patch().get_window_extent() for text in axes[0].texts]
    assert len(texts) == len(CORNERS)
    for text in texts:
        assert panel.x0 - 1 <= text.x0 and text.x1 <= panel.x1 + 1
        assert panel.y0 - 1 <= text.y0 and text.y1 <= panel.y1 + 1


def test_boxes_are_where_they_were(axes):
    boxes = [patch for patch in axes[0].patches if isinstance(patch, Rectangle)]
    assert sorted(patch.get_bbox().extents.tolist() for patch in boxes) == sorted(
        [float(v) for v in box] for box in CORNERS)
