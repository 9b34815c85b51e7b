"""The networks to measure, by name and by family.

Each is built from its own library's code, with random weights: latency does not depend on them,
except for the number of boxes that a detector suppresses (see :mod:`.tasks`).
"""

import fnmatch
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Callable, Dict, Iterable, List, Set

from torch import nn

from ...backbones.archs import ARCHS
from . import classifiers, tasks
from .thirty_layers import ACTIVATIONS, BRANCHES, ThirtyLayers

__all__ = ['FAMILIES', 'NETWORKS', 'Network', 'select']

FAMILIES = {
    'backbones': 'ImageNet classifiers: a backbone, global pooling, a linear layer',
    'detectors': 'SSDLite on COCO from the image to the boxes',
    'segmentors': 'DeepLabV3 on ADE20K from the image to the label map',
    'activations': "the paper's 30-layer network with another activation (Table 2)",
    'branches': "the paper's 30-layer network with other branches (Table 3)",
}
SIZES = dict(backbones=224, detectors=320, segmentors=512, activations=224, branches=224)


@dataclass(frozen=True)
class Network:
    """A network to measure.

    Attributes:
        name: Unique.
        family: A key of ``FAMILIES``.
        label: Its name in tables and pictures.
        build: Builds the module: images (N, 3, H, W) in, tensors out.
        form: ``'folded'`` to fold the batch norms and a MobileOne's branches; ``'unfolded'`` to run
            the network as it was trained.
        group: Networks of one group are connected by a line in pictures.
    """

    name: str
    family: str
    label: str
    build: Callable[[], nn.Module]
    form: str = 'folded'
    group: str = ''

    @property
    def size(self) -> int:
        """Height and width of the image, in pixels, unless the user asks for another."""
        return SIZES[self.family]


def _mobileone(family: str, build: Callable[..., nn.Module], prefix: str = '') -> List[Network]:
    """S0 to S4, each folded and unfolded."""
    networks = []
    for arch in ARCHS:
        network = Network(f'{prefix}mobileone_{arch}', family, f'MobileOne-{arch.upper()}',
                          partial(build, arch), group='MobileOne')
        networks += [network, replace(network, name=f'{network.name}_unfolded', form='unfolded',
                                      label=f'{network.label} unfolded', group='unfolded')]
    return networks


def _others(family: str, table: Dict[str, tuple], prefix: str = '') -> List[Network]:
    return [Network(prefix + name, family, label, build, group=group)
            for name, (label, group, build) in table.items()]


def _table() -> Dict[str, Network]:
    networks = [
        *_mobileone('backbones', classifiers.mobileone),
        *_others('backbones', classifiers.OTHERS),
        *_mobileone('detectors', tasks.ssdlite_mobileone, 'ssdlite_'),
        *_others('detectors', tasks.OTHER_DETECTORS, 'ssdlite_'),
        *_mobileone('segmentors', tasks.deeplabv3_mobileone, 'deeplabv3_'),
        *_others('segmentors', tasks.OTHER_SEGMENTORS, 'deeplabv3_'),
        *(Network(f'30_layers_{name}', 'activations', name, partial(ThirtyLayers, name))
          for name in ACTIVATIONS),
        *(Network(f'30_layers_branches_{name}', 'branches', name,
                  partial(ThirtyLayers, se=se, skip=skip))
          for name, (se, skip) in BRANCHES.items()),
    ]
    return {network.name: network for network in networks}


NETWORKS: Dict[str, Network] = _table()


def select(patterns: Iterable[str]) -> List[Network]:
    """Networks by family, name, or shell pattern of names, in the table's order.

    Raises:
        ValueError: A pattern matches nothing; the message lists what there is.
    """
    chosen: Set[str] = set()
    for pattern in patterns:
        found = [network.name for network in NETWORKS.values()
                 if network.family == pattern or fnmatch.fnmatch(network.name, pattern)]
        if not found:
            raise ValueError(f'no network matches {pattern!r}: expected a family '
                             f'({", ".join(FAMILIES)}), or a pattern of these names: '
                             f'{", ".join(NETWORKS)}')
        chosen.update(found)
    return [network for name, network in NETWORKS.items() if name in chosen]


def default_families() -> List[str]:
    """All families whose library is installed."""
    needs = dict(detectors='mmdet', segmentors='mmseg', backbones='mmdet')
    return [family for family in FAMILIES if find_spec(needs.get(family, 'torch'))]
