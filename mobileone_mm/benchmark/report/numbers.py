"""Compute the numbers in tables and pictures from the results."""

from collections import defaultdict
from typing import Dict, List, NamedTuple, Optional

from ..latency import paper
from ..latency.results import Results, Row
from ..latency.roofline import Layer

__all__ = ['BACKENDS', 'KINDS', 'STOCK', 'Bound', 'accuracy', 'bounds', 'correlation', 'full_label',
           'kind_shares', 'of_network']

BACKENDS = dict(torch='PyTorch', onnxruntime='ONNX Runtime', openvino='OpenVINO', ncnn='ncnn',
                litert='LiteRT', executorch='ExecuTorch')
KINDS = ('pointwise', 'dense', 'depthwise', 'linear', 'other')
"""Kinds of layers, see :func:`mobileone_mm.benchmark.latency.roofline.kind_of`."""
STOCK = dict(backbones='mobilenet_v2_x1.0', detectors='ssdlite_mobilenet_v2',
             segmentors='deeplabv3_mobilenet_v2')
PREFIXES = dict(detectors='ssdlite_', segmentors='deeplabv3_')


def of_network(results: Results, network: str, backend: str) -> Optional[Row]:
    """The row of a network in a backend, if it was timed."""
    return next((row for row in results.rows
                 if (row.network, row.backend) == (network, backend)), None)


def accuracy(row: Row) -> Optional[float]:
    """The paper's top-1, box mAP or mIoU on ADE20K, in percent, if it gives one."""
    if row.form != 'folded':
        return None
    name = row.network[len(PREFIXES.get(row.family, '')):]
    if row.family == 'backbones':
        return paper.CLASSIFIERS[name].top1 if name in paper.CLASSIFIERS else None
    if row.family == 'detectors':
        return paper.DETECTORS.get(name)
    if row.family == 'segmentors':
        return paper.SEGMENTORS[name].ade20k if name in paper.SEGMENTORS else None
    return None


def full_label(results: Results, network: str) -> str:
    """A network's label, with its head."""
    label = next((row.label for row in results.rows if row.network == network), network)
    return dict(ssdlite='SSDLite ', deeplabv3='DeepLabV3 ').get(network.split('_')[0], '') + label


def correlation(rows: List[Row], quantity: str) -> paper.Correlation:
    """Correlate the median latency with ``'macs'``, ``'params'`` or ``'activations'``."""
    try:
        from scipy.stats import spearmanr
    except ImportError as error:
        raise ModuleNotFoundError("the report needs scipy: pip install 'mobileone_mm[benchmark]'",
                                  name='scipy') from error
    found = spearmanr([row.median_ms for row in rows], [getattr(row, quantity) for row in rows])
    return paper.Correlation(float(found.statistic), float(found.pvalue))


def kind_shares(layers: List[Layer]) -> Dict[str, float]:
    """Each kind's share of a network's time."""
    times: Dict[str, float] = defaultdict(float)
    for layer in layers:
        times[layer.kind] += layer.ms
    total = sum(times.values())
    return {kind: times[kind] / total for kind in KINDS}


class Bound(NamedTuple):
    """A network compared with the machine's peak.

    Attributes:
        ms: Sum over its layers.
        gflops: 1e9 operations per second, on average.
        of_peak: The same as a share of the measured matrix product.
        least_ms: The time its operations would take at that peak.
    """

    ms: float
    gflops: float
    of_peak: float
    least_ms: float


def bounds(layers: List[Layer], peak_gflops: float) -> Bound:
    """Sum up a profile."""
    ms, macs = sum(layer.ms for layer in layers), sum(layer.macs for layer in layers)
    gflops = 2e-6 * macs / ms
    return Bound(ms, gflops, gflops / peak_gflops, 2e-6 * macs / peak_gflops)
