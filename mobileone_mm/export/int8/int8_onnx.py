"""8-bit integers for ONNX Runtime: quantize and dequantize nodes around the convolutions."""

from pathlib import Path
from typing import (Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set,
                    Tuple)

import numpy as np

from ..errors import ExportError

# Activations fuse into the convolution before them; all else (decoding, suppression) stays float.
OPERATORS = ('Conv', 'Relu', 'Clip')


class LayerError(NamedTuple):
    """How much of a layer's output is quantization noise.

    Attributes:
        name: Of the convolution in the graph.
        sqnr_db: Signal to noise ratio of its output, in decibels, noise of earlier layers
            included: 20 dB is a noise of a tenth of the signal.
        quantized: Whether it computes in 8 bits.
    """

    name: str
    sqnr_db: float
    quantized: bool


def quantize_onnx(source: Path, target: Path, images: Iterable[np.ndarray],
                  keep: Sequence[str] = (), per_channel: bool = True,
                  reduce_range: bool = False) -> Path:
    """Quantize the convolutions of an ONNX file after training.

    Args:
        source: A float32 graph with one input.
        target: Where to write.
        images: Inputs to find the ranges of activations with.
        keep: Names of nodes that stay in float32.
        per_channel: A scale for each output channel of a kernel rather than for the whole kernel.
        reduce_range: Weights of 7 bits, so that sums do not saturate on x86 without VNNI.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    prepared = target.with_suffix('.prepared.onnx')
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(target), _reader(prepared, images), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS), nodes_to_exclude=list(keep),
            per_channel=per_channel, reduce_range=reduce_range,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    finally:
        prepared.unlink(missing_ok=True)
    return target


def kept_layers(path: Path, keep: Sequence[str]) -> List[str]:
    """Names of the convolutions that stay in float32.

    Args:
        path: A float32 graph.
        keep: 'first' for the convolutions that see the image, 'last' for those that make the
            predictions, 'none', or names of convolutions.

    Raises:
        ExportError: A name is of no convolution.
    """
    above, below = _neighbors(path)
    chosen: Set[str] = set()
    for name in keep:
        if name == 'first':
            chosen.update(conv for conv, convs in above.items() if not convs)
        elif name == 'last':
            chosen.update(conv for conv, convs in below.items() if not convs)
        elif name in above:
            chosen.add(name)
        elif name != 'none':
            raise ExportError(f'keep {name!r}: expected first, last, none or the name of one of the '
                              f'{len(above)} convolutions, such as {next(iter(above))}')
    return sorted(chosen)


def _neighbors(path: Path) -> Tuple[Dict[str, Set[str]], Dict[str, Set[str]]]:
    """By convolution: those that it depends on, and those that depend on it."""
    import onnx
    above: Dict[str, Set[str]] = {}
    of_tensor: Dict[str, Set[str]] = {}
    for node in onnx.load(str(path)).graph.node:
        convs = set().union(*(of_tensor.get(name, set()) for name in node.input))
        if node.op_type == 'Conv':
            above[node.name] = convs
            convs = convs | {node.name}
        of_tensor.update((name, convs) for name in node.output)
    below = {name: {other for other, convs in above.items() if name in convs} for name in above}
    return above, below


def layer_errors(source: Path, quantized: Path, images: Iterable[np.ndarray]) -> List[LayerError]:
    """Compare the outputs of all convolutions, in the order of the graph.

    Args:
        source: The float32 graph.
        quantized: What :func:`quantize_onnx` made of it.
        images: A few inputs; each adds to signal and noise.
    """
    own, other = _convolutions(source), _convolutions(quantized)
    names = [name for name in own if name in other]
    expected, actual = (_with_outputs(path, [nodes[name].output[0] for name in names])
                        for path, nodes in ((source, own), (quantized, other)))
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for image in images:
        for index, pair in enumerate(zip(expected(image), actual(image))):
            wanted, found = (tensor.astype(np.float64) for tensor in pair)
            signal[index] += np.square(wanted).sum()
            noise[index] += np.square(wanted - found).sum()
    decibels = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))
    return [LayerError(name, float(ratio), 'DequantizeLinear' in other[name].input[1])
            for name, ratio in zip(names, decibels)]


def _convolutions(path: Path) -> Dict[str, Any]:
    """The nodes of a graph's convolutions by name, in their order."""
    import onnx
    return {node.name: node for node in onnx.load(str(path)).graph.node if node.op_type == 'Conv'}


def _reader(path: Path, images: Iterable[np.ndarray]) -> Any:
    """Images in the form that onnxruntime's calibration takes."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.name = onnx.load(str(path), load_external_data=False).graph.input[0].name
            self.images = iter(images)

        def get_next(self) -> Optional[Dict[str, np.ndarray]]:
            image = next(self.images, None)
            return None if image is None else {self.name: image}

    return Reader()


def _with_outputs(path: Path, tensors: Sequence[str]) -> Callable[[np.ndarray], List[np.ndarray]]:
    """A function from an image to inner tensors, computed node by node, without fusing."""
    import onnx
    import onnxruntime
    model = onnx.load(str(path))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})
