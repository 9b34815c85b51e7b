"""The convolutions of a graph, whatever its format: which stay in float32, how noisy each is."""

from typing import Dict, Iterable, List, NamedTuple, Sequence, Set

import numpy as np

from ..errors import ExportError

ERROR_IMAGES = 4  # for the errors of layers


class Node(NamedTuple):
    """A step of a graph.

    Attributes:
        inputs: What it reads.
        outputs: What it writes, under names of the same kind.
        convolution: Its name as a convolution; empty for all else.
    """

    inputs: Sequence[object]
    outputs: Sequence[object]
    convolution: str = ''


class LayerError(NamedTuple):
    """How much of a layer's output is quantization noise.

    Attributes:
        name: Of the convolution.
        sqnr_db: Signal to noise ratio of its output, in decibels, noise of earlier layers
            included: 20 dB is a noise of a tenth of the signal.
        quantized: Whether it computes in 8 bits.
    """

    name: str
    sqnr_db: float
    quantized: bool


def kept_layers(nodes: Iterable[Node], keep: Sequence[str]) -> List[str]:
    """The convolutions that stay in float32, in the order of the graph.

    Args:
        nodes: The graph, in the order of computation.
        keep: 'first' for the convolutions that see the image, 'last' for those that make the
            predictions, 'none', or names of convolutions.

    Raises:
        ExportError: A name is of no convolution.
    """
    above: Dict[str, Set[str]] = {}  # by convolution: those that it depends on
    of_value: Dict[object, Set[str]] = {}
    for node in nodes:
        convs = set().union(*(of_value.get(value, set()) for value in node.inputs))
        if node.convolution:
            above[node.convolution] = convs
            convs = convs | {node.convolution}
        of_value.update((value, convs) for value in node.outputs)
    groups = dict(none=[], first=[name for name, convs in above.items() if not convs],
                  last=sorted(set(above) - set().union(*above.values())))
    chosen: Set[str] = set()
    for name in keep:
        if name not in groups and name not in above:
            raise ExportError(f'--keep {name}: expected first, last, none or the name of a '
                              f'convolution, such as {list(above)[len(above) // 2]}')
        chosen.update(groups.get(name, [name]))
    return [name for name in above if name in chosen]


class Noise:
    """Signal and noise of the outputs of some layers, added over images.

    Args:
        count: How many layers.
    """

    def __init__(self, count: int) -> None:
        self.signal, self.noise = np.zeros(count), np.zeros(count)

    def add(self, expected: Iterable[np.ndarray], actual: Iterable[np.ndarray]) -> None:
        """The outputs of all layers for one image, in float32 and in 8 bits."""
        for index, pair in enumerate(zip(expected, actual)):
            wanted, found = (np.asarray(tensor, np.float64) for tensor in pair)
            self.signal[index] += np.square(wanted).sum()
            self.noise[index] += np.square(wanted - found).sum()

    def decibels(self) -> List[float]:
        """The signal to noise ratio of each layer."""
        ratios = np.maximum(self.signal, 1e-30) / np.maximum(self.noise, 1e-30)
        return [float(ratio) for ratio in 10 * np.log10(ratios)]
