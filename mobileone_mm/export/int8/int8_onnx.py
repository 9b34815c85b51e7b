"""Quantize for ONNX Runtime, with quantize and dequantize nodes around convolutions."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import numpy as np

from .layers import LayerError, Node, Noise, layer_names

# Activations fuse into the convolution before them. Decoding and suppression stay in float32.
OPERATORS = ('Conv', 'Relu', 'Clip')


def quantize_onnx(source: Path, target: Path, images: Iterable[np.ndarray],
                  keep: Sequence[str] = (), per_channel: bool = True,
                  reduce_range: bool = False) -> Path:
    """Quantize the convolutions of an ONNX file after training.

    The range of an activation runs from the mean of the images' minima to the mean of their maxima,
    since outliers would make the steps between 8-bit values too large.

    Args:
        source: A float32 graph with one input.
        target: The file to write.
        images: Inputs that determine the ranges of activations.
        keep: Names of nodes that stay in float32.
        per_channel: Use a scale for each output channel instead of one for the whole kernel.
        reduce_range: Use weights of 7 bits, so that sums do not saturate on x86 without VNNI.
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
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            extra_options=dict(CalibMovingAverage=True))
    finally:
        prepared.unlink(missing_ok=True)
    return target


def name_layers(path: Path, layers: Sequence[str]) -> None:
    """Name the convolutions of an ONNX file after their modules, see :func:`.layer_names`."""
    import onnx
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.op_type == 'Conv']
    # Such as /bbox_head/reg_convs.0/reg_convs.0.1/Conv: a list's name is in that of its items.
    scopes = [node.name.strip('/').split('/')[:-1] for node in nodes]
    found = ['.'.join(step for step, inner in zip(scope, [*scope[1:], ''])
                      if not inner.startswith(f'{step}.')) or node.name
             for node, scope in zip(nodes, scopes)]
    for node, name in zip(nodes, layer_names(found, layers)):
        node.name = name
    onnx.save(model, str(path))


def graph_nodes(path: Path) -> List[Node]:
    """The nodes of an ONNX file in order."""
    import onnx
    return [Node(node.input, node.output, node.name if node.op_type == 'Conv' else '')
            for node in onnx.load(str(path)).graph.node]


def layer_errors(source: Path, quantized: Path, images: Iterable[np.ndarray]) -> List[LayerError]:
    """Compare the outputs of all convolutions, in the order of the graph.

    Args:
        source: The float32 graph.
        quantized: The result of :func:`quantize_onnx`.
        images: A few inputs; each adds to signal and noise.
    """
    own, other = _convolutions(source), _convolutions(quantized)
    names = [name for name in own if name in other]
    expected, actual = (_with_outputs(path, [nodes[name].output[0] for name in names])
                        for path, nodes in ((source, own), (quantized, other)))
    noise = Noise(len(names))
    for image in images:
        noise.add(expected(image), actual(image))
    return [LayerError(name, ratio, 'DequantizeLinear' in other[name].input[1])
            for name, ratio in zip(names, noise.decibels())]


def _convolutions(path: Path) -> Dict[str, Any]:
    """The nodes of a graph's convolutions by name, in order."""
    import onnx
    return {node.name: node for node in onnx.load(str(path)).graph.node if node.op_type == 'Conv'}


def _reader(path: Path, images: Iterable[np.ndarray]) -> Any:
    """A reader of images for onnxruntime's calibration."""
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
    """A function that computes inner tensors for an image, node by node and without fusing."""
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
