"""Make the tables of the report."""

from typing import List, Optional, Sequence

from ..latency import paper
from ..latency.results import Results, Row
from . import numbers

__all__ = ['correlations', 'latency', 'limits', 'machine', 'stock_ratios', 'table', 'variants']


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table in Markdown; columns of ``numbers``, all but the first, are aligned to the right."""
    lines = [header, *([cell.replace('|', '\\|') for cell in row] for row in rows)]
    texts = ['| ' + ' | '.join(cells) + ' |' for cells in lines]
    texts.insert(1, '|--|' + ('--:|' if numbers else '--|') * (len(header) - 1))
    return '\n'.join(texts)


def _ms(value: float) -> str:
    return f'{value:.2f}' if value < 100 else f'{value:.0f}'


def _cell(row: Optional[Row]) -> str:
    """Median, with the minimum and the spread."""
    if row is None:
        return '-'
    return f'{_ms(row.median_ms)} ({_ms(row.min_ms)}; {_ms(row.p10_ms)}-{_ms(row.p90_ms)})'


def machine(results: Results) -> str:
    """The machine, the versions and the settings."""
    facts = results.machine
    rows = [('processor', f'{facts.get("cpu", "?")}, {facts.get("cores", "?")} cores, '
                          f'{facts.get("vector", "?")}'),
            ('caches', ', '.join(f'{k} {v}' for k, v in facts.get('cache', {}).items()) or '-'),
            ('memory', f'{facts.get("memory_gib", "?")} GiB'),
            ('system', f'{facts.get("system", "?")}, Python {facts.get("python", "?")}'),
            ('versions', ', '.join(f'{k} {v}' for k, v in facts.get('versions', {}).items())),
            ('threads, batch', f'{results.settings["threads"]}, {results.settings["batch"]}'),
            ('time', f'{results.started} to {results.finished}')]
    for peak in results.peaks:
        rows.append(('measured peak', f'{peak["gflops"]:.0f} GFLOP/s (matrix product in '
                     f'{peak["gemm"]}), {peak["dram_gbs"]:.0f} GB/s from memory, '
                     f'{peak["cache_gbs"]:.0f} GB/s in the cache; load average {peak["load"]}'))
    return table(('', ''), rows, numbers=False)


def latency(results: Results, family: str) -> str:
    """Every network of a family in every backend."""
    backends = [b for b in results.backends if results.select(family, b)]
    networks = {row.network: row for row in results.select(family)}
    with_accuracy = any(numbers.accuracy(row) is not None for row in networks.values())
    header = ['network', *(["the paper's accuracy"] if with_accuracy else []),
              'multiply-adds, M', 'parameters, M',
              *(f'{numbers.BACKENDS[b]}, ms' for b in backends)]
    rows = []
    for name, row in networks.items():
        value = numbers.accuracy(row)
        rows.append([row.label, *([('-' if value is None else f'{value:.1f}')]
                                  if with_accuracy else []),
                     f'{row.macs / 1e6:.0f}', f'{row.params / 1e6:.2f}',
                     *(_cell(numbers.of_network(results, name, b)) for b in backends)])
    return table(header, rows)


def correlations(results: Results) -> str:
    """Spearman's rho of latency with the counts."""
    rows = []
    for backend in results.backends:
        own = results.select('backbones', backend, 'folded')
        if len(own) > 2:
            cells = [numbers.correlation(own, q) for q in ('macs', 'params', 'activations')]
            rows.append([f'here, {numbers.BACKENDS[backend]}', str(len(own)),
                         *(f'{c.rho:.2f} ({c.p:.1g})' for c in cells)])
    for device, values in paper.RANK_CORRELATIONS.items():
        rows.append([f'the paper, {device}', '-', *(
            f'{values[q].rho:.2f} ({values[q].p:.2f})' for q in ('flops', 'params')), '-'])
    return table(['latency', 'networks', 'multiply-adds: rho (p)', 'parameters: rho (p)',
                  'activations: rho (p)'], rows)


def variants(results: Results, family: str) -> str:
    """The variants of the 30-layer network, relative to the first."""
    backends = [b for b in results.backends if results.select(family, b)]
    labels = list(dict.fromkeys(row.label for row in results.select(family)))
    rows = []
    for label in labels:
        cells = []
        for backend in backends:
            times = {row.label: row.median_ms for row in results.select(family, backend)}
            known = label in times and labels[0] in times
            cells.append(f'{_ms(times[label])} ({times[label] / times[labels[0]]:.2f})'
                         if known else '-')
        theirs = paper.ACTIVATIONS.get(label) if family == 'activations' else None
        base = paper.ACTIVATIONS['relu']
        cells.append(f'{theirs:.2f} ({theirs / base:.2f})' if theirs else '-')
        rows.append([label.replace('_', ' '), *cells])
    return table(['', *(f'{numbers.BACKENDS[b]}, ms' for b in backends),
                  "the paper's iPhone 12, ms"], rows)


def stock_ratios(results: Results, family: str) -> str:
    """Folded MobileOne relative to the stock MobileNetV2, with the paper's accuracies."""
    stock = {row.backend: row.median_ms for row in results.select(family)
             if row.network == numbers.STOCK[family]}
    rows = []
    for row in {r.network: r for r in results.select(family, form='folded')
                if r.group == 'MobileOne' or r.network == numbers.STOCK[family]}.values():
        value = numbers.accuracy(row)
        cells = []
        for backend, ms in stock.items():
            own = numbers.of_network(results, row.network, backend)
            cells.append(f'{own.median_ms / ms:.2f}' if own else '-')
        extra = []
        if family == 'segmentors':
            name = row.network[len('deeplabv3_'):]
            extra = [f'{paper.SEGMENTORS[name].voc:.1f}']
        rows.append([row.label, '-' if value is None else f'{value:.1f}', *extra, *cells])
    what = dict(backbones=['top-1'], detectors=['box mAP'], segmentors=['mIoU ADE20K', 'mIoU VOC'])
    return table(['latency / that of the stock MobileNetV2',
                  *(f"{name} (the paper's)" for name in what[family]),
                  *(numbers.BACKENDS[b] for b in stock)], rows)


def limits(results: Results) -> str:
    """Profiled networks compared with the measured peak."""
    rows: List[List[str]] = []
    for name in results.roofline:
        layers = results.layers(name)
        bound = numbers.bounds(layers, results.peak()['gflops'])
        shares = numbers.kind_shares(layers)
        rows.append([numbers.full_label(results, name), _ms(bound.ms), _ms(bound.least_ms),
                     f'{bound.gflops:.0f}', f'{100 * bound.of_peak:.0f}%',
                     *(f'{100 * shares[kind]:.0f}%' for kind in numbers.KINDS)])
    return table(['ONNX Runtime', 'all layers, ms', 'its operations at the peak, ms', 'GFLOP/s',
                  'of the peak', *(f'time in {kind}' for kind in numbers.KINDS)], rows)
