"""Report an ablation: tables and pictures with confidence intervals."""

import math
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ..utils.plots import new_figure, save_figure
from .ablation import VARIANTS, Result, split_by_variant

__all__ = ['Interval', 'Row', 'draw_ablation', 'summarize', 'table', 't_interval']


class Interval(NamedTuple):
    """A mean, and half the width of its confidence interval (NaN for a single value)."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f'{self.mean:.4g}' + (
            '' if math.isnan(self.half_width) else f' +- {self.half_width:.2g}')


class Row(NamedTuple):
    """A variant: its values, their interval, and that of the differences from the first variant."""

    name: str
    values: List[float]
    interval: Interval
    difference: Optional[Interval]


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's confidence interval of the mean of independent values."""
    from scipy import stats  # installed with mmdet and mmseg
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return Interval(float(sample.mean()), math.nan)
    error = sample.std(ddof=1) / math.sqrt(len(sample))
    quantile = stats.t.ppf((1 + confidence) / 2, len(sample) - 1)
    return Interval(float(sample.mean()), float(quantile * error))


def summarize(results: Sequence[Result]) -> List[Row]:
    """One row per variant; differences are paired by seed, which removes what runs of a seed share.

    The 95% intervals are for single comparisons: among many variants, some will differ by chance.
    """
    names, values = split_by_variant(results)
    return [Row(name, own, t_interval(own), None if name == names[0] else t_interval(
        [a - b for a, b in zip(own, values[0])])) for name, own in zip(names, values)]


def table(rows: Sequence[Row], metric: str) -> str:
    """A Markdown table."""
    seeds = len(rows[0].values)
    lines = [f'| variant | {metric}, mean of {seeds} seeds +- 95% | difference from '
             f'{rows[0].name}, paired | |', '|--|--|--|--|']
    lines += [f'| {row.name} | {row.interval} | {row.difference or ""} | '
              f'{VARIANTS[row.name].about} |' for row in rows]
    return '\n'.join(lines) + '\n'


def draw_ablation(rows: Sequence[Row], metric: str, path: Union[str, Path], title: str) -> None:
    """Write a PNG: all runs and their means with intervals, and the paired differences."""
    figure = new_figure(11, 1.6 + .45 * len(rows))
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True)
    for y, row in enumerate(rows):
        left.plot(row.values, [y] * len(row.values), 'o', color='C0', alpha=.4, ms=5)
        for axis, interval in ((left, row.interval), (right, row.difference)):
            if interval is not None:
                width = 0 if math.isnan(interval.half_width) else interval.half_width
                axis.errorbar(interval.mean, y, xerr=width, fmt='D', color='black', capsize=4, ms=5)
    right.axvline(0, color='gray', lw=1)
    left.set_yticks(range(len(rows)), [row.name for row in rows])
    left.invert_yaxis()
    left.set_xlabel(f'{metric}: runs (dots), mean and 95% interval')
    right.set_xlabel(f'difference from {rows[0].name}, paired by seed, 95% interval')
    for axis in (left, right):
        axis.grid(axis='x', alpha=.3)
    save_figure(figure, path)
