"""Draw the pictures of the report."""

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...utils.plots import new_figure, save_figure
from ..latency import paper
from ..latency.results import Results, Row
from ..latency.roofline import Layer
from . import numbers

__all__ = ['draw']

COLORS = {'MobileOne': '#c1272d', 'MobileNetV2': '#0b5fa5', 'MobileNetV3': '#2a9d8f',
          'ResNet': '#8d6e63', 'others': '#9e9e9e', 'unfolded': '#e8a33d'}
KIND_COLORS = {'pointwise': '#c1272d', 'dense': '#0b5fa5', 'depthwise': '#e8a33d',
               'linear': '#6a4c93', 'other': '#9e9e9e'}
KIND_LABELS = {'pointwise': '1x1 convolution', 'dense': 'other convolution',
               'depthwise': 'depthwise convolution', 'linear': 'linear layer', 'other': 'the rest'}
STYLE: Any = {'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False,
         'axes.titlesize': 10, 'axes.titleweight': 'bold', 'legend.frameon': False}


def draw(results: Results, folder: Path) -> Dict[str, str]:
    """Draw every picture for which there are results.

    Returns:
        Caption of each picture that was drawn, by its name.
    """
    drawn = {}
    with matplotlib.rc_context(STYLE):
        for name, (function, caption) in FIGURES.items():
            figure = function(results)
            if figure is not None:
                save_figure(figure, folder / f'{name}.png', dpi=110)
                drawn[name] = caption
    return drawn


def _panels(count: int, width: float = 4.6, height: float = 3.5) -> Tuple[Figure, List[Axes]]:
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def _log(axis: Axes, which: str) -> None:
    getattr(axis, f'set_{which}scale')('log')
    line = getattr(axis, f'{which}axis')
    low, high = getattr(axis, f'get_{which}lim')()
    subs = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)
    line.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
    line.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{value:g}'))
    line.set_minor_formatter(ticker.NullFormatter())


def _accuracy(results: Results, family: str, what: str) -> Optional[Figure]:
    """The paper's accuracy over latency, one panel per backend."""
    panels = {}
    for backend in results.backends:
        rows = [(row, value) for row in results.select(family, backend, 'folded')
                if (value := numbers.accuracy(row)) is not None]
        if len(rows) > 1:
            panels[backend] = rows
    if not panels:
        return None
    figure, axes = _panels(len(panels))
    for axis, (backend, rows) in zip(axes, panels.items()):
        for group in dict.fromkeys(row.group for row, _ in rows):
            own = [(row.median_ms, value) for row, value in rows if row.group == group]
            axis.plot(*zip(*own), 'o-', color=COLORS.get(group, COLORS['others']), label=group)
        _log(axis, 'x')
        axis.margins(x=.2, y=.12)
        _name_points(figure, axis, [row for row, _ in rows],
                     [(row.median_ms, value) for row, value in rows])
        suffix = '' if rows[0][0].scope == 'whole' else ' (raw outputs)'
        axis.set(title=numbers.BACKENDS[backend] + suffix, xlabel='measured latency, ms',
                 ylabel=what)
        axis.grid(alpha=.25)
    return figure


def _name_points(figure: Figure, axis: Axes, rows: Sequence[Row],
                 points: Sequence[Tuple[float, float]], size: float = 7.5) -> None:
    """Write names beside points, each where it covers the least of other names and points."""
    figure.draw_without_rendering()  # fixes the scales that distances are measured in
    to_points = 72 / figure.dpi
    places = [to_points * place for place in axis.transData.transform(points)]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
    for row, point, (x, y) in zip(rows, points, places):
        name = row.label.replace('MobileOne-', '').replace('MobileNet', '').replace(', stock', '')
        width = .6 * size * len(name)
        offsets = [(dx, dy) for dx in (5, -5 - width, -width / 2) for dy in (-9, 3, -4, -14, 9)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + size) for dx, dy in offsets]
        best = min(range(len(boxes)), key=lambda i: sum(_overlap(boxes[i], t) for t in taken))
        taken.append(boxes[best])
        axis.annotate(name, point, textcoords='offset points', xytext=offsets[best], fontsize=size,
                      color=COLORS.get(row.group, '#777'))


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Common area of two boxes (left, bottom, right, top)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.


def _rank_correlation(results: Results) -> Optional[Figure]:
    """Latency over multiply-adds and over parameters, with Spearman's rho."""
    backend = 'onnxruntime' if 'onnxruntime' in results.backends else results.backends[0]
    rows = results.select('backbones', backend, 'folded')
    if len(rows) < 3:
        return None
    figure, axes = _panels(2, 4.9, 3.9)
    theirs = paper.RANK_CORRELATIONS['Xeon']
    for axis, quantity, key, label in zip(
            axes, ('macs', 'params'), ('flops', 'params'),
            ('multiply-adds, millions', 'parameters, millions')):
        found = numbers.correlation(rows, quantity)
        for group in dict.fromkeys(row.group for row in rows):
            own = [row for row in rows if row.group == group]
            axis.scatter([getattr(row, quantity) / 1e6 for row in own],
                         [row.median_ms for row in own], s=28, label=group,
                         color=COLORS.get(group, COLORS['others']))
        _log(axis, 'x')
        _log(axis, 'y')
        axis.margins(x=.12)
        _name_points(figure, axis, rows,
                     [(getattr(row, quantity) / 1e6, row.median_ms) for row in rows], 6)
        axis.grid(alpha=.25)
        axis.set(xlabel=label, ylabel=f'{numbers.BACKENDS[backend]}, ms',
                 title=f'rho = {found.rho:.2f}, p = {found.p:.1g}, {len(rows)} networks\n'
                       f"(the paper's Xeon: {theirs[key].rho:.2f}, p = {theirs[key].p:.2f})")
    axes[0].legend(fontsize=7.5)
    return figure


def _bars(values: Dict[str, Dict[str, float]], labels: Sequence[str], ylabel: str,
          title: str) -> Figure:
    """Bars grouped by label; ``values`` holds each backend's, by label."""
    figure = new_figure(9.2, 3.4)
    axis = figure.subplots()
    width = .8 / len(values)
    for i, (backend, own) in enumerate(values.items()):
        bars = axis.bar([labels.index(label) + (i - (len(values) - 1) / 2) * width
                         for label in own], list(own.values()), width * .92,
                        color=matplotlib.colormaps['viridis'](.15 + .25 * i),
                        label=numbers.BACKENDS[backend])
        axis.bar_label(bars, [f'{value:.2f}' for value in own.values()], fontsize=6.5,
                       rotation=90, padding=2)
    axis.axhline(1, color='#555', lw=.8, ls='--')
    axis.set_xticks(range(len(labels)), [label.replace('_', ' ') for label in labels])
    axis.margins(y=.18)
    axis.set(ylabel=ylabel, title=title)
    axis.legend(ncols=4, fontsize=7.5, loc='upper left')
    return figure


def _variants(results: Results, family: str, title: str) -> Optional[Figure]:
    """Latency relative to the first network, grouped by backend."""
    labels = list(dict.fromkeys(row.label for row in results.select(family)))
    values = {}
    for backend in results.backends:
        times = {row.label: row.median_ms for row in results.select(family, backend)}
        if labels[:1] and labels[0] in times:
            values[backend] = {label: ms / times[labels[0]] for label, ms in times.items()}
    if not values or len(labels) < 2:
        return None
    return _bars(values, labels, f'latency / {labels[0]}', title)


def _folding(results: Results) -> Optional[Figure]:
    """Bars for unfolded over folded latency."""
    values: Dict[str, Dict[str, float]] = {}
    for row in results.select('backbones', form='folded'):
        if unfolded := numbers.of_network(results, f'{row.network}_unfolded', row.backend):
            values.setdefault(row.backend, {})[row.label] = unfolded.median_ms / row.median_ms
    labels = list(dict.fromkeys(label for own in values.values() for label in own))
    return _bars(values, labels, 'unfolded / folded latency',
                 'Time that folding saves') if values else None


def _roofline(results: Results) -> Optional[Figure]:
    """Layers under the measured roofs."""
    peak = results.peak()
    names = [name for name in results.roofline
             if name in ('mobileone_s0', 'mobileone_s1', 'mobileone_s4', 'mobilenet_v2_x1.0')]
    if not names:
        return None
    figure, axes = _panels(len(names), 4.8, 3.7)
    for axis, name in zip(axes, names):
        layers = [layer for layer in results.layers(name) if layer.macs]
        bound = numbers.bounds(results.layers(name), peak['gflops'])
        _roofs(axis, peak)
        _layer_points(axis, layers)
        axis.set(title=f'{numbers.full_label(results, name)}: {bound.gflops:.0f} GFLOP/s, '
                       f'{100 * bound.of_peak:.0f}% of peak',
                 xlabel='operations per byte', ylabel='GFLOP/s', xlim=(.5, 400),
                 ylim=(.6, 2.5 * peak['gflops']))
    axes[0].legend(fontsize=7, loc='lower right')
    return figure


def _roofs(axis: Axes, peak: dict) -> None:
    low, high = .3, 1000.
    for rate, style, label in ((peak['dram_gbs'], '-', 'memory'),
                               (peak['cache_gbs'], ':', 'cache')):
        knee = peak['gflops'] / rate
        axis.plot([low, knee], [rate * low, peak['gflops']], style, color='#444', lw=1,
                  label=f'{label}, {rate:.0f} GB/s')
    axis.plot([min(peak['gflops'] / peak['cache_gbs'], 1), high], [peak['gflops']] * 2,
              color='#444', lw=1.4, label=f'matrix product, {peak["gflops"]:.0f} GFLOP/s')
    _log(axis, 'x')
    _log(axis, 'y')
    axis.grid(alpha=.2)


def _layer_points(axis: Axes, layers: List[Layer]) -> None:
    total = sum(layer.ms for layer in layers)
    for kind in numbers.KINDS:
        own = [layer for layer in layers if layer.kind == kind]
        if own:
            axis.scatter([layer.intensity for layer in own], [layer.gflops for layer in own],
                         [8 + 900 * layer.ms / total for layer in own], alpha=.65, lw=0,
                         color=KIND_COLORS[kind], label=KIND_LABELS[kind])


def _time_shares(results: Results) -> Optional[Figure]:
    """Stacked bars for the kinds of layers."""
    if not results.roofline:
        return None
    names = list(results.roofline)
    figure = new_figure(9.2, .38 * len(names) + 1.3)
    axis = figure.subplots()
    left = [0.] * len(names)
    for kind in numbers.KINDS:
        shares = [100 * numbers.kind_shares(results.layers(name))[kind] for name in names]
        bars = axis.barh(range(len(names)), shares, .75, left=left, label=KIND_LABELS[kind],
                         color=KIND_COLORS[kind])
        axis.bar_label(bars, [f'{share:.0f}' if share > 4 else '' for share in shares],
                       label_type='center', color='white', fontsize=7.5)
        left = [a + b for a, b in zip(left, shares)]
    axis.set_yticks(range(len(names)), [numbers.full_label(results, name) for name in names])
    axis.invert_yaxis()
    axis.set(xlabel='% of the time', xlim=(0, 100))
    axis.legend(ncols=5, fontsize=7.5, loc='lower center', bbox_to_anchor=(.5, 1))
    return figure


ACCURACY = ("{} (the paper's numbers, not measured here) over the latency measured here; up and "
            'left is better.')
# How to draw each picture, and its caption.
FIGURES: Dict[str, Tuple[Callable[[Results], Optional[Figure]], str]] = {
    'accuracy_imagenet': (
        partial(_accuracy, family='backbones', what="top-1, % (the paper's)"),
        ACCURACY.format('ImageNet top-1')),
    'accuracy_coco': (
        partial(_accuracy, family='detectors', what="box mAP (the paper's)"),
        ACCURACY.format('SSDLite on COCO: box mAP')),
    'accuracy_ade20k': (
        partial(_accuracy, family='segmentors', what="mIoU, % (the paper's)"),
        ACCURACY.format('DeepLabV3 on ADE20K: mIoU')),
    'rank_correlation': (
        _rank_correlation,
        "Does a count predict latency? Every folded classifier, with Spearman's rho."),
    'activations': (
        partial(_variants, family='activations',
                title='A 30-layer network with another activation'),
        'What an activation costs: latency of a 30-layer network relative to ReLU.'),
    'branches': (
        partial(_variants, family='branches',
                title='A 30-layer network with squeeze-and-excitation, skip connections, both'),
        'What branches cost: latency of a 30-layer network relative to one without '
        'squeeze-and-excitation and skip connections.'),
    'folding': (
        _folding,
        'What folding saves: latency of the unfolded backbone relative to the folded one.'),
    'roofline': (
        _roofline,
        "Each layer against the machine's limits: the area of a point is its share of the "
        "network's time, the lines are the measured peaks. A layer on the horizontal line cannot "
        'get faster on this machine.'),
    'time_shares': (
        _time_shares,
        'Where the time goes in ONNX Runtime, by kind of layer, in percent.'),
}
