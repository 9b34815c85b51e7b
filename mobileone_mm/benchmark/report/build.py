"""The whole report from a folder of results."""

from pathlib import Path
from typing import Dict, List, Optional

from ...utils.fileio import atomic_path
from ..latency.results import Results
from . import figures, numbers, tables
from .markdown import code, heading, table

__all__ = ['build_report']


def build_report(folder: Path, page: Optional[Path] = None) -> List[Path]:
    """Write pictures and a Markdown page.

    Args:
        folder: With ``latency.json``; pictures go there.
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
    page = page or folder / 'latency.md'
    pictures = '.' if page.parent == folder else folder.name
    with atomic_path(page) as temporary:
        temporary.write_text('\n\n'.join(document(results, captions, pictures)) + '\n')
    return [page, *(folder / f'{name}.png' for name in captions)]


def document(results: Results, captions: dict, pictures: str) -> List[str]:
    """The page's paragraphs; sections without results are left out.

    Args:
        results: All there are.
        captions: Of each picture that was drawn, by its name.
        pictures: Path from the page to the folder of the pictures.
    """
    def figure(name: str) -> List[str]:
        return [f'![{captions[name]}]({pictures}/{name}.png)'] if name in captions else []

    blocks: List[str] = [
        heading('Latency: what costs time', 1),
        'After this page you know what MobileOne costs on a CPU, in which runtime, beside which '
        'networks, and how to measure it on yours.',
        'Made by the two commands below from one run; every number but those labeled as the '
        "paper's (arXiv 2206.04040) was measured in it. Times are medians in milliseconds, "
        'behind them the minimum and the 10th to 90th percentile. Weights are random. '
        '"Folded" is also said of other networks, whose batch norms are folded.',
        code(f'{results.command}\npython tools/benchmark/report.py {_out(results)}'),
        tables.machine(results)]
    for title, family, names in (
            ('ImageNet classifiers', 'backbones', ('accuracy_imagenet', 'folding')),
            ('SSDLite on COCO', 'detectors', ('accuracy_coco', )),
            ('DeepLabV3 on ADE20K', 'segmentors', ('accuracy_ade20k', ))):
        if results.select(family):
            blocks += [heading(title), *(b for name in names for b in figure(name)),
                       *_notes(family, results), tables.latency(results, family)]
            if numbers.STOCK[family] in {row.network for row in results.rows}:
                blocks.append(tables.stock_ratios(results, family))
    if results.select('timm'):
        blocks += [heading('Classifiers of timm'), tables.latency(results, 'timm')]
    if results.select('backbones'):
        blocks += [heading('Do multiply-adds and parameters predict latency?'),
                   *figure('rank_correlation'), tables.correlations(results)]
    for title, family in (('Activations', 'activations'), ('Branches', 'branches')):
        if results.select(family):
            blocks += [heading(title), *_notes(family, results), *figure(family),
                       tables.variants(results, family)]
    if results.roofline:
        blocks += [heading('How far from the limit of the machine?'), *_roofline_notes(results),
                   *figure('roofline'), *figure('time_shares'), tables.limits(results)]
    if results.skipped:
        by_reason: Dict[str, List[str]] = {}
        for name, reason in results.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        blocks += [heading('Not measured'), table(('network, backend', 'reason'), [
            ('; '.join(names), reason) for reason, names in by_reason.items()])]
    return blocks


def _out(results: Results) -> str:
    words = results.command.split()
    return words[words.index('--out') + 1] if '--out' in words else 'work_dirs/latency'


NOTES = {
    'detectors': 'From the image to the boxes, normalization and suppression included; ncnn up to '
                 'the raw scores and deltas. Untrained scores would leave nothing to suppress, so '
                 'those of every detector are scaled until 300 pairs of anchor and class pass the '
                 "threshold. The stock model is mmdet's config with the missing attribute of its "
                 'head added.',
    'segmentors': 'From the image to the label map at its size, normalization included; ncnn up to '
                  "the logits at the head's stride. The stock config computes at output stride 8, "
                  "this package's configs at 16; the row 'at stride 16' is the stock model with "
                  'that stride and its dilations. S4 is without squeeze-and-excitation, as in the '
                  'paper. Most of the time goes into the ASPP head, whose dilated convolutions the '
                  'runtimes already compute without the padding. Two things were improved: the '
                  'image pooling no longer passes through the bottleneck as a map, which saves a '
                  'fifth of the bottleneck, and matrix products find the label map '
                  '(tools/benchmark/label_map.py measures the gain).',
    'activations': "The paper's Table 2. It gives no more of its network than 30 layers; ours is "
                   'MobileNetV1 with one more pair of convolutions. SE-ReLU is a '
                   "squeeze-and-excitation before each ReLU; dynamic ReLU is mmdet's DyReLU.",
    'branches': "The paper's Table 3, whose values are not known here. Skip connections go around "
                'each convolution that keeps its shape, squeeze-and-excitation is on each '
                'convolution but the first.',
}

OLD_HEAD = ("**Measured with mmseg's `type=ASPPHead`**, whose 3x3 projection has nine times the "
            'weights of the 1x1 one of `DeepLabV3Head`, which the configs have since 0.2.0. The '
            "networks of today are smaller than this section's.")


def _notes(family: str, results: Results) -> List[str]:
    notes = [NOTES[family]] if family in NOTES else []
    # Until 0.1 the configs had another head than the networks of today.
    version = results.machine.get('versions', {}).get('mobileone_mm', '')
    if family == 'segmentors' and version.startswith('0.1.'):
        notes.append(OLD_HEAD)
    return notes


def _roofline_notes(results: Results) -> List[str]:
    """The comparison that the paper makes, and what this machine's limit says of it."""
    notes = [
        'The profile of ONNX Runtime, layer by layer, against two measured limits: the fastest '
        'float32 matrix product, and a copy in memory. A layer that has many operations for each '
        'byte is bound by the first, others by the second. Bytes are those of inputs, weights and '
        'outputs; what stays in a cache may exceed the line of the memory.']
    peak = results.peak()
    first, second = (numbers.of_network(results, name, 'onnxruntime')
                     for name in ('mobileone_s1', 'mobilenet_v2_x1.0'))
    if peak and first and second:
        theirs = numbers.paper.CLASSIFIERS
        least = 2e-6 * first.macs / peak['gflops']
        notes.append(
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
            "where the other is far from the limit, as on the paper's devices.")
    return notes
