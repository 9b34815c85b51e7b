"""Select convolutions that stay in float32 and measure quantization noise, in any format."""

from typing import Dict, Iterable, List, NamedTuple, Sequence, Set

import numpy as np

from ..errors import ExportError

ERROR_IMAGES = 4  # number of images to measure the layers' noise on


class Node(NamedTuple):
    """An operator of a graph.

    Attributes:
        inputs: Names of the tensors it reads.
        outputs: Names of the tensors it writes.
        convolution: Name of the convolution; empty for other operators.
    """

    inputs: Sequence[object]
    outputs: Sequence[object]
    convolution: str = ''


class LayerError(NamedTuple):
    """The quantization noise in a layer's output.

    Attributes:
        name: Name of the convolution.
        sqnr_db: Signal-to-noise ratio of its output in decibels, including the noise of earlier
            layers; at 20 dB the noise is a tenth of the signal.
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
        ExportError: A name belongs to no convolution.
    """
    above: Dict[str, Set[str]] = {}  # the convolutions that each convolution depends on
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
    """Signal and noise of the outputs of layers, summed over images.

    Args:
        count: Number of layers.
    """

    def __init__(self, count: int) -> None:
        self.signal, self.noise = np.zeros(count), np.zeros(count)

    def add(self, expected: Iterable[np.ndarray], actual: Iterable[np.ndarray]) -> None:
        """Add the outputs of all layers for one image, in float32 and in 8 bits."""
        for index, pair in enumerate(zip(expected, actual)):
            wanted, found = (np.asarray(tensor, np.float64) for tensor in pair)
            self.signal[index] += np.square(wanted).sum()
            self.noise[index] += np.square(wanted - found).sum()

    def decibels(self) -> List[float]:
        """The signal-to-noise ratio of each layer in decibels."""
        ratios = np.maximum(self.signal, 1e-30) / np.maximum(self.noise, 1e-30)
        return [float(ratio) for ratio in 10 * np.log10(ratios)]
