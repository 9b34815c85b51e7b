"""Pictures of predictions beside the ground truth, for a look at what a model has learned."""

import math
from pathlib import Path
from typing import Any, List, Sequence, Tuple, Union

import mmcv
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..utils.plots import new_figure, save_figure

IGNORED = 255  # label of pixels left out of evaluation, drawn white


def draw_detections(samples: Sequence[Any], classes: Sequence[str], path: Union[str, Path],
                    score_thr: float = .4) -> None:
    """Write a PNG with pairs of pictures: annotated boxes, and those of the model.

    Args:
        samples: mmdet's DetDataSample with ``gt_instances`` and ``pred_instances``, boxes in
            pixels of the original image, and ``img_path``.
        classes: Names of the classes.
        path: The file to write.
        score_thr: Predictions of a lower score are left out. Defaults to 0.4.
    """
    figure, axes = _grid(len(samples), ('ground truth', f'prediction (score >= {score_thr})'), 2)
    for (left, right), sample in zip(axes, samples):
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        for axis in (left, right):
            axis.imshow(image)
        truth, found = sample.gt_instances, sample.pred_instances
        found = found[found.scores >= score_thr]
        _boxes(left, truth.bboxes, truth.labels, [classes[i] for i in truth.labels])
        _boxes(right, found.bboxes, found.labels,
               [f'{classes[i]} {score:.2f}' for i, score in zip(found.labels, found.scores)])
    save_figure(figure, path)


def draw_segmentations(samples: Sequence[Any], classes: Sequence[str],
                       palette: Sequence[Sequence[int]], path: Union[str, Path]) -> None:
    """Write a PNG with rows of image, label map and prediction, and a legend.

    Args:
        samples: mmseg's SegDataSample with ``gt_sem_seg``, ``pred_sem_seg`` and ``img_path``.
        classes: Names of the classes.
        palette: RGB, 0-255, of each class.
        path: The file to write.
    """
    colours = np.full((256, 3), IGNORED, np.uint8)
    colours[:len(palette)] = palette
    figure, axes = _grid(len(samples), ('image', 'ground truth', 'prediction'), 2)
    for trio, sample in zip(axes, samples):
        maps = [sample.gt_sem_seg, sample.pred_sem_seg]
        pictures = [mmcv.imread(sample.img_path, channel_order='rgb')]
        pictures += [colours[labels.data.squeeze(0).cpu().numpy()] for labels in maps]
        for axis, picture in zip(trio, pictures):
            axis.imshow(picture, interpolation='nearest')
    handles = [Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor='grey', label=name)
               for (r, g, b), name in zip([*palette, (IGNORED,) * 3], [*classes, 'ignored'])]
    figure.legend(handles=handles, loc='outside lower center', ncols=4, fontsize=12)
    save_figure(figure, path)


def _grid(number: int, titles: Sequence[str], groups: int
          ) -> Tuple[Figure, List[List[Axes]]]:
    """One group of axes per sample, ``groups`` of them side by side; no ``pyplot``, no display."""
    rows, columns = math.ceil(number / groups), groups * len(titles)
    figure = new_figure(3.4 * columns, 3.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, axis in enumerate(axes[0]):
        axis.set_title(titles[column % len(titles)], fontsize=13)
    return figure, axes.reshape(rows * groups, len(titles)).tolist()


def _boxes(axis: Axes, boxes: Any, labels: Any, texts: Sequence[str]) -> None:
    for box, label, text in zip(boxes, labels, texts):
        x1, y1, x2, y2 = (float(v) for v in box)
        colour = f'C{int(label) % 10}'
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=2))
        axis.text(x1, max(y1, 9), text, fontsize=9, color='white', va='bottom', clip_on=True,
                  bbox=dict(facecolor=colour, edgecolor='none', pad=1))
