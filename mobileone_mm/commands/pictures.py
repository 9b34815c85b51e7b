"""Draw predictions beside annotations: equal panels, labels inside the frame."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Sequence, Tuple, Union

import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..utils.plots import new_figure, save_figure

Color = Tuple[float, float, float]
IGNORED = 255  # label of ignored pixels, drawn white
PANEL, SHAPE = 2.6, .9  # width of a panel in inches, and its height over its width
PAD = 1.5  # around a label's text, in points
COLORS = [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
          (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)]
BACKGROUND = (38, 38, 44)


@dataclass(frozen=True)
class Label:
    """A labeled box on a picture.

    Attributes:
        box: x1, y1, x2, y2 in pixels.
        text: Label of the box.
        color: RGB, 0 to 1.
    """

    box: Tuple[float, ...]
    text: str
    color: Color


@dataclass(frozen=True)
class Row:
    """A row of pictures.

    Attributes:
        title: Title above the first picture.
        pictures: RGB, (H, W, 3), uint8.
        labels: The boxes on each picture.
    """

    title: str
    pictures: Sequence[np.ndarray]
    labels: Sequence[Sequence[Label]] = field(default=())


def detection_rows(samples: Sequence[Any], classes: Sequence[str], score_thr: float = .4
                   ) -> List[Row]:
    """Rows of annotated and predicted boxes.

    Args:
        samples: Samples of mmdet's DetDataSample with ``gt_instances``, ``pred_instances`` (boxes
            in pixels of the original image) and ``img_path``.
        classes: Names of the classes.
        score_thr: Predictions with lower scores are left out. Defaults to 0.4.
    """
    pictures = [mmcv.imread(sample.img_path, channel_order='rgb') for sample in samples]
    found = [sample.pred_instances[sample.pred_instances.scores >= score_thr]
             for sample in samples]
    return [
        Row('annotated boxes', pictures, [_labels(s.gt_instances, classes) for s in samples]),
        Row(f'predicted boxes (score ≥ {score_thr})', pictures,
            [_labels(instances, classes) for instances in found])]


def segmentation_rows(samples: Sequence[Any],
                      palette: Sequence[Sequence[int]] = (BACKGROUND, *COLORS)) -> List[Row]:
    """Rows of images, annotated and predicted label maps; label 0 is the background.

    Args:
        samples: Samples of mmseg's SegDataSample with ``gt_sem_seg``, ``pred_sem_seg`` and
            ``img_path``.
        palette: RGB of each label, 0 to 255.
    """
    colors = np.full((256, 3), IGNORED, np.uint8)
    colors[:len(palette)] = palette
    maps = [[colors[labels.data.squeeze(0).cpu().numpy()]
             for labels in (sample.gt_sem_seg, sample.pred_sem_seg)] for sample in samples]
    return [
        Row('images', [mmcv.imread(sample.img_path, channel_order='rgb') for sample in samples]),
        Row('annotated labels', [annotated for annotated, _ in maps]),
        Row('predicted labels', [predicted for _, predicted in maps])]


def draw_rows(rows: Sequence[Row], path: Union[str, Path], title: str, caption: str,
              classes: Sequence[str] = ()) -> Figure:
    """Write a PNG with rows of equal panels.

    Args:
        rows: The rows; panels of shorter rows stay empty at the end.
        path: The file to write.
        title: Title above all rows.
        caption: Caption below all rows.
        classes: Names for a legend, without the background.

    Returns:
        The figure.
    """
    columns = max(len(row.pictures) for row in rows)
    figure = new_figure(PANEL * columns, (PANEL * SHAPE + .35) * len(rows) + 1.2)
    figure.suptitle(title, fontsize=17, fontweight='bold')
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows):
        axes[0].set_title(row.title, fontsize=14, loc='left')
        for axis in axes:
            axis.set_axis_off()
        for axis, picture in zip(axes, row.pictures):
            axis.imshow(picture, interpolation='nearest', aspect='auto')
            axis.set_box_aspect(SHAPE)
        for axis, picture, labels in zip(axes, row.pictures, row.labels):
            for label in sorted(labels, key=_area, reverse=True):  # small boxes on top
                _draw_label(axis, label, *picture.shape[:2])
    figure.legend(
        handles=[Patch(facecolor=_color(index), label=name) for index, name in enumerate(classes)],
        loc='outside lower center', title=caption, title_fontsize=13, ncols=max(len(classes), 1),
        fontsize=13, frameon=False, columnspacing=1.2, handlelength=1)
    save_figure(figure, path, dpi=100)
    return figure


def _labels(instances: Any, classes: Sequence[str]) -> List[Label]:
    return [Label(tuple(float(v) for v in box), classes[int(index)], _color(int(index)))
            for box, index in zip(instances.bboxes, instances.labels)]


def _area(label: Label) -> float:
    x1, y1, x2, y2 = label.box
    return (x2 - x1) * (y2 - y1)


def _color(index: int) -> Color:
    red, green, blue = COLORS[index % len(COLORS)]
    return red / 255, green / 255, blue / 255


def _draw_label(axis: Axes, label: Label, height: int, width: int) -> None:
    """Draw a box, and its text inside the picture."""
    x1, y1, x2, y2 = label.box
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=label.color, lw=2.5))
    is_left = x1 + x2 < width
    is_above = y1 > .1 * height  # there is room for the text
    axis.annotate(
        label.text, (max(x1, -.5) if is_left else min(x2, width - .5), max(y1, -.5)),
        (PAD if is_left else -PAD, PAD if is_above else -PAD), textcoords='offset points',
        fontsize=12, color='white', ha='left' if is_left else 'right',
        va='bottom' if is_above else 'top',
        bbox=dict(facecolor=label.color, edgecolor='none', pad=PAD))
