"""Select convolutions that stay in float32 and measure quantization noise, in any format."""

from typing import Dict, Iterable, List, NamedTuple, Sequence, Set

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..errors import ExportError
from ..graphs.models import Normalize

ERROR_IMAGES = 4  # number of images to measure the layers' noise on
GROUPS = ('first', 'last', 'none')


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


@torch.no_grad()
def convolutions_of(model: BaseModel, image: Tensor) -> List[str]:
    """The names of the modules whose convolutions a model computes, in order.

    Args:
        model: A detector or segmentor.
        image: (1, 3, H, W), BGR, 0 to 255.
    """
    called: List[str] = []
    hooks = [module.register_forward_hook(lambda *_, name=name: called.append(name))
             for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    model(Normalize(model.data_preprocessor)(image), mode='tensor')
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(called))


def layer_names(found: Sequence[str], layers: Sequence[str]) -> List[str]:
    """Names of convolutions that are the same in all formats: those of their modules.

    Args:
        found: A format's own names in the order of computation: steps of a module's name, with
            dots. Some may be missing, or there are more before it.
        layers: The names of the modules, from :func:`convolutions_of`.

    Returns:
        A name for each: of several convolutions of one module, the second gets ``@2``. One that no
        module fits keeps its name, unless there is only one module that fits no other.
    """
    names: List[str] = []
    for own in found:
        fits = [layer for layer in layers if own.endswith(f'.{layer}') or _has_steps(layer, own)]
        unused = [layer for layer in fits if layer not in names]
        names.append((unused or fits or [''])[0])
    left = [layer for layer in layers if layer not in names]
    if len(left) == 1:  # a graph computes DeepLabV3's bottleneck in two parts, outside its module
        names = [name or left[0] for name in names]
    names = [name or own for name, own in zip(names, found)]
    return [name if name not in names[:index] else f'{name}@{names[:index].count(name) + 1}'
            for index, name in enumerate(names)]


def _has_steps(layer: str, own: str) -> bool:
    """Whether the steps of a name all occur in that of a module, in this order."""
    steps = iter(layer.split('.'))
    return all(step in steps for step in own.split('.'))


def check_keep(keep: Sequence[str], layers: Sequence[str]) -> None:
    """Refuse names of layers to keep in float32 that do not exist.

    Args:
        keep: See :func:`kept_layers`.
        layers: The names of all convolutions.

    Raises:
        ExportError: A name belongs to no convolution.
    """
    for name in keep:
        if name not in GROUPS and name not in layers:
            raise ExportError(f'--keep {name}: expected first, last, none or the name of a '
                              f'convolution, such as {layers[len(layers) // 2]}')


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
    check_keep(keep, list(above))
    chosen = {name for word in keep for name in groups.get(word, [word])}
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
