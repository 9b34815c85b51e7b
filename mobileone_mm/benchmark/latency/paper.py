"""What the paper (arXiv 2206.04040) reports; none of these numbers was measured here.

Its CPU is a Xeon Gold 5118 at 2.3 GHz, its phone an iPhone 12 (Core ML, the minimum of 1000 runs).
"""

from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional

__all__ = ['ACTIVATIONS', 'CLASSIFIERS', 'DETECTORS', 'RANK_CORRELATIONS', 'SEGMENTORS',
           'Classifier', 'Correlation', 'Segmentor']


@dataclass(frozen=True)
class Classifier:
    """A row of Table 9: ImageNet top-1 in percent, millions, milliseconds."""

    top1: float
    mflops: float  # multiply-adds, as the paper counts
    mparams: float
    cpu_ms: float


class Correlation(NamedTuple):
    """Spearman's rho and its p-value."""

    rho: float
    p: float


class Segmentor(NamedTuple):
    """mIoU in percent."""

    voc: float
    ade20k: Optional[float]


# Table 9, by the names of :mod:`mobileone_mm.benchmark.latency.networks`.
CLASSIFIERS: Dict[str, Classifier] = {
    'mobileone_s0': Classifier(71.4, 275, 2.1, 10.55),
    'mobileone_s1': Classifier(75.9, 825, 4.8, 13.04),
    'mobileone_s2': Classifier(77.4, 1299, 7.8, 14.87),
    'mobileone_s3': Classifier(78.1, 1896, 10.1, 16.47),
    'mobileone_s4': Classifier(79.4, 2978, 14.8, 26.60),
    'mobilenet_v2_x1.0': Classifier(72.0, 300, 3.4, 13.65),
    'mobilenet_v2_x1.4': Classifier(74.7, 585, 6.9, 15.67),
    'mobilenet_v3_small': Classifier(67.4, 56, 2.5, 10.38),
    'mobilenet_v3_large': Classifier(75.2, 219, 5.4, 17.09),
    'efficientnet_b0': Classifier(77.1, 390, 5.3, 28.71),
}
# Table 11a: box mAP on COCO.
DETECTORS: Dict[str, float] = {
    'mobileone_s1': 25.7, 'mobileone_s2': 26.6, 'mobileone_s3': 27.3, 'mobileone_s4': 29.4,
    'mobilenet_v2': 22.1,
}
# Table 11b; S4 without squeeze-and-excitation.
SEGMENTORS: Dict[str, Segmentor] = {
    'mobileone_s0': Segmentor(73.7, 33.1), 'mobileone_s1': Segmentor(77.3, 35.1),
    'mobileone_s2': Segmentor(77.9, 35.7), 'mobileone_s3': Segmentor(78.8, 36.2),
    'mobileone_s4': Segmentor(80.1, 38.2), 'mobilenet_v2': Segmentor(75.7, 34.1),
}
# Table 1: correlation of latency with FLOPs and with parameters.
RANK_CORRELATIONS: Dict[str, Dict[str, Correlation]] = {
    'iPhone 12': dict(flops=Correlation(.47, .03), params=Correlation(.30, .18)),
    'Xeon': dict(flops=Correlation(.06, .80), params=Correlation(.07, .77)),
}
# Table 2: ms of a 30-layer network on an iPhone 12.
ACTIVATIONS: Dict[str, float] = {
    'relu': 1.53, 'gelu': 1.63, 'se_relu': 2.10, 'silu': 2.54, 'dynamic_relu': 242.14,
}
