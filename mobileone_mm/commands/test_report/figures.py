"""Draw confusion matrices, curves and the worst images as PNG files."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Union

import numpy as np

from ...utils.plots import new_figure, save_figure
from ..pictures import Row, draw_rows

__all__ = ['draw_confusion', 'draw_curves', 'draw_worst']

MANY = 40  # up to this many classes, cells hold numbers
COLUMNS = 4  # columns of a sheet of images


def draw_confusion(counts: np.ndarray, rows: Sequence[str], columns: Sequence[str],
                   path: Union[str, Path]) -> None:
    """Draw a confusion matrix, each row in percent of its sum.

    Args:
        counts: (R, C), true by predicted.
        rows: Names of the true classes.
        columns: Names of the predicted classes.
        path: The file to write.
    """
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4., min(30., 1.5 + .45 * len(columns)))
    figure = new_figure(side + 1, side)
    axis = figure.subplots()
    axis.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    axis.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    axis.set_yticks(range(len(rows)), rows, parse_math=False)
    axis.set(xlabel='predicted', ylabel='true', title='% of a row')
    if len(columns) <= MANY:
        for row, column in np.argwhere(counts > 0):
            share = shares[row, column]
            axis.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=8,
                      color='white' if share > 50 else 'black')
    save_figure(figure, path, dpi=90)


def draw_curves(recalls: np.ndarray, precisions: Dict[str, np.ndarray],
                path: Union[str, Path]) -> None:
    """Draw precision over recall.

    Args:
        recalls: (R, ).
        precisions: Name of the curve -> (R, ); the last curve is thick.
        path: The file to write.
    """
    figure = new_figure(8, 6)
    axis = figure.subplots()
    for i, precision in enumerate(precisions.values()):
        last = i == len(precisions) - 1
        axis.plot(recalls, precision, color='black' if last else None, lw=3 if last else 1)
    legend = axis.legend(list(precisions), fontsize=7, ncols=1 + len(precisions) // 30)
    for text in legend.get_texts():
        text.set_parse_math(False)
    axis.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=.3)
    save_figure(figure, path, dpi=90)


def draw_worst(samples: Sequence[Any], rows: Callable[[Sequence[Any]], List[Row]],
               path: Union[str, Path], classes: Sequence[str] = ()) -> None:
    """Draw a sheet of images, the worst first.

    Args:
        samples: Samples for ``rows``.
        rows: A function like :func:`~mobileone_mm.commands.pictures.detection_rows`.
        path: The file to write.
        classes: Names for the legend.
    """
    sheet = [row for start in range(0, len(samples), COLUMNS)
             for row in rows(samples[start:start + COLUMNS])]
    draw_rows(sheet, path, 'Worst images', 'the worst first', classes)
