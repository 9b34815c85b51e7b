"""Write the report on a folder of results."""

from pathlib import Path
from typing import Dict, List

from ...utils.fileio import atomic_path
from ..latency.results import Results
from . import figures, numbers, tables

__all__ = ['build_report']


def build_report(folder: Path) -> List[Path]:
    """Write pictures, and beside their folder a Markdown page of the same name.

    Args:
        folder: The folder of ``latency.json``; pictures go there too.

    Returns:
        The files that were written.

    Raises:
        FileNotFoundError: There are no results.
        ValueError: The results cannot be read, or are empty.
    """
    folder = folder.resolve()
    results = Results.read(folder)
    if not results.rows:
        raise ValueError(f'{folder} holds results without a single measurement')
    captions = figures.draw(results, folder)
    page = folder.with_name(f'{folder.name}.md')
    with atomic_path(page) as temporary:
        temporary.write_text('\n\n'.join(_document(results, captions, folder.name)) + '\n')
    return [page, *(folder / f'{name}.png' for name in captions)]


def _document(results: Results, captions: Dict[str, str], pictures: str) -> List[str]:
    """The page's paragraphs; sections without results are left out."""
    def figure(name: str) -> List[str]:
        return [f'![{captions[name]}]({pictures}/{name}.png)'] if name in captions else []

    blocks: List[str] = [
        '# Latency: see what costs time',
        'After this page you know what MobileOne costs on a CPU in four runtimes, how other '
        'networks compare, and how to measure all of it on your machine.',
        'The two commands below wrote this page from one run. Every number was measured in it, '
        "except those labeled as the paper's (arXiv 2206.04040). Times are medians in "
        'milliseconds, followed by the minimum and the 10th to 90th percentile. Weights are '
        'random. Other networks count as "folded" when their batch norms are.',
        f'```bash\n{results.command}\npython tools/benchmark/report.py {_out(results)}\n```',
        tables.machine(results)]
    for title, family, names in (
            ('ImageNet classifiers', 'backbones', ('accuracy_imagenet', 'folding')),
            ('SSDLite on COCO', 'detectors', ('accuracy_coco', )),
            ('DeepLabV3 on ADE20K', 'segmentors', ('accuracy_ade20k', ))):
        if results.select(family):
            blocks += [f'## {title}', *(b for name in names for b in figure(name)),
                       *([NOTES[family]] if family in NOTES else []),
                       tables.latency(results, family)]
            if numbers.STOCK[family] in {row.network for row in results.rows}:
                blocks.append(tables.stock_ratios(results, family))
    if results.select('backbones'):
        blocks += ['## Do multiply-adds and parameters predict latency?',
                   *figure('rank_correlation'), tables.correlations(results)]
    for title, family in (('Activations', 'activations'), ('Branches', 'branches')):
        if results.select(family):
            blocks += [f'## {title}', NOTES[family], *figure(family),
                       tables.variants(results, family)]
    if results.roofline:
        blocks += ['## How close to the limits of the machine?', *_roofline_notes(results),
                   *figure('roofline'), *figure('time_shares'), tables.limits(results)]
    if results.skipped:
        by_reason: Dict[str, List[str]] = {}
        for name, reason in results.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        blocks += ['## Not measured', tables.table(('network, backend', 'reason'), [
            ('; '.join(names), reason) for reason, names in by_reason.items()], numbers=False)]
    return blocks


def _out(results: Results) -> str:
    words = results.command.split()
    return words[words.index('--out') + 1] if '--out' in words else 'work_dirs/latency'


NOTES = {
    'detectors': 'From the image to the boxes, normalization and suppression included; ncnn only '
                 'to the raw scores and deltas. Untrained scores would leave nothing to suppress, '
                 'so all scores are scaled until 300 pairs of anchor and class pass the '
                 "threshold. The stock model is mmdet's config with the missing attribute of its "
                 'head added.',
    'segmentors': 'From the image to a label map of the same size, normalization included; ncnn '
                  "only to the logits at the head's stride. The stock config has output stride 8, "
                  "this package's configs 16; the row 'at stride 16' is the stock model with "
                  'that stride and its dilations. S4 has no squeeze-and-excitation, as in the '
                  'paper. Most of the time goes into the ASPP head. The runtimes already skip the '
                  'padding of its dilated convolutions. The export saves time in two places: the '
                  'image pooling no longer passes through the bottleneck as a map, which saves a '
                  'fifth of the bottleneck, and matrix products compute the label map '
                  '(tools/benchmark/label_map.py measures the gain). Here they computed all rows '
                  'at once; since then, a few at a time, which saves 5 % of S1 in ONNX Runtime and '
                  '6 % in OpenVINO (tools/benchmark/int8.py, on another processor).',
    'activations': "The paper's Table 2. The paper only says that it has 30 layers; ours is "
                   'MobileNetV1 with one more pair of convolutions. SE-ReLU is a '
                   "squeeze-and-excitation before each ReLU; dynamic ReLU is mmdet's DyReLU.",
    'branches': "The paper's Table 3, whose values are not known here. Skip connections go around "
                'each convolution that keeps its shape; squeeze-and-excitation is on each '
                'convolution but the first.',
}

def _roofline_notes(results: Results) -> List[str]:
    """The paper's comparison, and what this machine's limits say about it."""
    notes = [
        "ONNX Runtime's profile, layer by layer, against two measured limits: the fastest "
        'float32 matrix product, and a copy in memory. A layer with many operations per '
        'byte is bound by the first, other layers by the second. Bytes are those of inputs, '
        'weights and outputs; layers whose data stay in a cache may exceed the memory line.']
    peak = results.peak()
    first, second = (numbers.of_network(results, name, 'onnxruntime')
                     for name in ('mobileone_s1', 'mobilenet_v2_x1.0'))
    if first and second:
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
            f"At that peak S1's operations alone take {least:.1f} ms, while all of MobileNetV2 "
            f'takes {second.median_ms:.1f} ms. A network with '
            f'{first.macs / second.macs:.1f} times the operations can only be faster if '
            "the other one is far from the limit, as on the paper's devices.")
    return notes
