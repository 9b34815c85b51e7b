"""The whole report from a folder of results."""

from pathlib import Path
from typing import Dict, List, Optional

from ...utils.fileio import atomic_path
from ..latency.results import Results
from . import figures, numbers, tables
from .document import Block, Code, Figure, Heading, Table, Text, to_html, to_markdown

__all__ = ['build_report']


def build_report(folder: Path, page: Optional[Path] = None) -> List[Path]:
    """Write pictures, ``latency.html`` and a Markdown page.

    Args:
        folder: With ``latency.json``; pictures and the HTML page go there.
        page: The Markdown page. Defaults to ``latency.md`` in ``folder``.

    Returns:
        The files.

    Raises:
        FileNotFoundError: There are no results.
        ValueError: The results cannot be read, or are empty.
    """
    results = Results.read(folder)
    if not results.rows:
        raise ValueError(f'{folder} holds results without a single measurement')
    captions = figures.draw(results, folder)
    blocks = document(results, captions)
    page = page or folder / 'latency.md'
    pictures = '.' if page.parent == folder else folder.name
    for path, text in ((page, to_markdown(blocks, pictures)),
                       (folder / 'latency.html', to_html(blocks, folder))):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    return [page, folder / 'latency.html',
            *(folder / f'{name}.{suffix}' for name in captions for suffix in ('png', 'svg'))]


def document(results: Results, captions: dict) -> List[Block]:
    """The report's blocks; sections without results are left out."""
    def figure(name: str) -> List[Block]:
        return [Figure(name, captions[name])] if name in captions else []

    blocks: List[Block] = [
        Heading('Latency: what costs time', 1),
        Text('Made by the two commands below from one run; every number but those labelled as the '
             "paper's (arXiv 2206.04040) was measured in it. Times are medians in milliseconds, "
             'behind them the minimum and the 10th to 90th percentile. Weights are random. '
             '"Folded" is also said of other networks, whose batch norms are folded.'),
        Code(f'{results.command}\npython tools/benchmark/report.py {_out(results)}'),
        tables.machine(results)]
    for title, family, names in (
            ('ImageNet classifiers', 'backbones', ('accuracy_imagenet', 'folding')),
            ('SSDLite on COCO', 'detectors', ('accuracy_coco', )),
            ('DeepLabV3 on ADE20K', 'segmentors', ('accuracy_ade20k', ))):
        if results.select(family):
            blocks += [Heading(title), *(b for name in names for b in figure(name)),
                       *_notes(family), tables.latency(results, family)]
            if numbers.STOCK[family] in {row.network for row in results.rows}:
                blocks.append(tables.stock_ratios(results, family))
    if results.select('timm'):
        blocks += [Heading('Classifiers of timm'), tables.latency(results, 'timm')]
    if results.select('backbones'):
        blocks += [Heading('Do multiply-adds and parameters predict latency?'),
                   *figure('rank_correlation'), tables.correlations(results)]
    for title, family in (('Activations', 'activations'), ('Branches', 'branches')):
        if results.select(family):
            blocks += [Heading(title), *_notes(family), *figure(family),
                       tables.variants(results, family)]
    if results.roofline:
        blocks += [Heading('How far from the limit of the machine?'), *_roofline_notes(results),
                   *figure('roofline'), *figure('time_shares'), tables.limits(results)]
    if results.skipped:
        by_reason: Dict[str, List[str]] = {}
        for name, reason in results.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        blocks += [Heading('Not measured'), Table(('network, backend', 'reason'), [
            ('; '.join(names), reason) for reason, names in by_reason.items()])]
    return blocks


def _out(results: Results) -> str:
    words = results.command.split()
    return words[words.index('--out') + 1] if '--out' in words else 'work_dirs/latency'


NOTES = {
    'detectors': 'From the image to the boxes, normalization and suppression included; ncnn up to '
                 'the raw scores and deltas. Untrained scores would leave nothing to suppress, so '
                 'those of every detector are scaled until 300 pairs of anchor and class pass the '
                 "threshold. The stock model is mmdet's config with its one defect, a missing "
                 'attribute, mended.',
    'segmentors': 'From the image to the label map at its size, normalization included; ncnn up to '
                  "the logits at the head's stride. The stock config computes at output stride 8, "
                  "this package's configs at 16; the row 'at stride 16' is the stock model with "
                  "that stride and its dilations. S4 is without squeeze-and-excitation, as there. "
                  'Most of the time is in the ASPP head, whose dilated convolutions the runtimes '
                  'already compute without the padding. Two things could be mended: the image '
                  'pooling does not go through the bottleneck as a map any more, which saves a '
                  'fifth of it, and the label map is found by matrix products '
                  '(tools/benchmark/label_map.py measures the gain).',
    'activations': "The paper's Table 2. It gives no more of its network than 30 layers; ours is "
                   'MobileNetV1 with one more pair of convolutions. SE-ReLU is a '
                   "squeeze-and-excitation before each ReLU; dynamic ReLU is mmdet's DyReLU.",
    'branches': "The paper's Table 3, whose values are not known here. Skip connections go around "
                'each convolution that keeps its shape, squeeze-and-excitation is on each '
                'convolution but the first.',
}


def _notes(family: str) -> List[Block]:
    return [Text(NOTES[family])] if family in NOTES else []


def _roofline_notes(results: Results) -> List[Block]:
    """The comparison that the paper makes, and what this machine's limit says of it."""
    notes: List[Block] = [Text(
        'The profile of ONNX Runtime, layer by layer, against two measured limits: the fastest '
        'float32 matrix product, and a copy in memory. A layer that has many operations for each '
        'byte is bound by the first, others by the second. Bytes are those of inputs, weights and '
        'outputs; what stays in a cache may exceed the line of the memory.')]
    peak = results.peak()
    first, second = (numbers.of_network(results, name, 'onnxruntime')
                     for name in ('mobileone_s1', 'mobilenet_v2_x1.0'))
    if peak and first and second:
        theirs = numbers.paper.CLASSIFIERS
        least = 2e-6 * first.macs / peak['gflops']
        notes.append(Text(
            f"The paper's Xeon runs MobileOne-S1 in {theirs[first.network].cpu_ms} ms and "
            f'MobileNetV2 in {theirs[second.network].cpu_ms} ms, a ratio of '
            f'{theirs[first.network].cpu_ms / theirs[second.network].cpu_ms:.2f}; that is '
            f'{2e-3 * theirs[first.network].mflops / theirs[first.network].cpu_ms * 1e3:.0f} and '
            f'{2e-3 * theirs[second.network].mflops / theirs[second.network].cpu_ms * 1e3:.0f} '
            f'GFLOP/s. Here the ratio in ONNX Runtime is '
            f'{first.median_ms / second.median_ms:.2f}: {first.gflops:.0f} and '
            f'{second.gflops:.0f} GFLOP/s, where a matrix product reaches {peak["gflops"]:.0f}. '
            f"At that peak S1's operations alone take {least:.1f} ms, MobileNetV2 takes "
            f'{second.median_ms:.1f} ms with all it does. A network with '
            f'{first.macs / second.macs:.1f} times the operations can be the faster one only '
            "where the other is far from the limit, as on the paper's devices."))
    return notes
