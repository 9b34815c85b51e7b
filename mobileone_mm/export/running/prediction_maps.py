"""The outputs of an exported file's last convolutions: its maps before argmax and suppression.

The maps are inside the graph, and each runtime has its own way to return them. A prediction can
hide wrong maps: non-finite logits give a label map of one class, as correct ones may; and scores
below the threshold give no boxes, wherever these are.
"""

from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Sequence, Set

import numpy as np
import torch
from torch import Tensor

from .runtimes import MilProgram, Ncnn, OnnxRuntime, OpenVINO, Runtime


class Node(NamedTuple):
    """An operator of a graph: names of its inputs and outputs, and whether it convolves."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    convolves: bool


def last_convolutions(nodes: Sequence[Node]) -> List[str]:
    """The outputs of the convolutions that no other convolution depends on.

    Args:
        nodes: The operators, in an order in which they can run.
    """
    read: Set[str] = set()  # tensors that a convolution reads, directly or indirectly
    found = []
    for node in reversed(nodes):
        is_read = not read.isdisjoint(node.outputs)
        if node.convolves and not is_read:
            found.append(node.outputs[0])
        if node.convolves or is_read:
            read.update(node.inputs)
    return found[::-1]


def prediction_maps(runtime: Runtime, image: np.ndarray) -> List[np.ndarray]:
    """The outputs of a loaded file's last convolutions for the first of images (N, 3, H, W)."""
    if isinstance(runtime, OnnxRuntime):
        return [maps[0] for maps in _of_onnx(runtime.path, image)]
    if isinstance(runtime, OpenVINO):
        return [maps[0] for maps in _of_openvino(runtime.path, image)]
    if isinstance(runtime, Ncnn):
        return runtime.extract(image[0], last_convolutions(list(_ncnn_nodes(runtime.path))))
    if not isinstance(runtime, MilProgram):
        raise TypeError(f'the maps of a {type(runtime).__name__} cannot be read')
    nodes = [Node([var.name for value in op.inputs.values() for var in _listed(value)],
                  [output.name for output in op.outputs], op.op_type == 'conv')
             for op in runtime.operations]
    return runtime.extract(image[:1], last_convolutions(nodes))


def match_maps(expected: Iterable[Tensor], actual: Iterable[np.ndarray]) -> float:
    """The largest ``max|a - b| / max|a|`` over maps in any order; NaN if a map is not finite.

    Args:
        expected: The PyTorch model's maps a.
        actual: An exported file's maps b. Axes of length 1 do not count.

    Raises:
        ValueError: Their numbers or shapes differ.
    """
    ours = [item.detach().double().squeeze() for item in expected]
    theirs = [torch.from_numpy(np.asarray(item, np.float64)).squeeze() for item in actual]
    shapes = [sorted(tuple(item.shape) for item in side) for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'its last convolutions return maps of shapes {shapes[1]}, the PyTorch '
                         f'model {shapes[0]}')
    if not all(item.isfinite().all() for item in (*ours, *theirs)):
        return float('nan')
    worst = 0.
    for own in ours:
        # Maps of the same shape are matched by their values: the closest one wins.
        ratios = [((own - other).abs().max() / own.abs().max().clamp(min=1e-30)).item()
                  if other.shape == own.shape else float('inf') for other in theirs]
        worst = max(worst, min(ratios))
        theirs.pop(ratios.index(min(ratios)))
    return worst


def _of_onnx(path: Path, image: np.ndarray) -> List[np.ndarray]:
    import onnx
    model = onnx.load(str(path))
    names = last_convolutions([Node(node.input, node.output, node.op_type == 'Conv')
                               for node in model.graph.node])
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return OnnxRuntime(model.SerializeToString(), threads=1)(image)


def _of_openvino(path: Path, image: np.ndarray) -> List[np.ndarray]:
    import openvino
    model = openvino.Core().read_model(path)
    operators = model.get_ordered_ops()
    ports = {_port(output): output for op in operators for output in op.outputs()}
    names = last_convolutions([
        Node([_port(value.get_source_output()) for value in op.inputs()],
             [_port(output) for output in op.outputs()],
             op.get_type_name() in ('Convolution', 'GroupConvolution')) for op in operators])
    maps = openvino.Model([_with_bias(ports[name]) for name in names], model.get_parameters())
    return OpenVINO(maps, threads=1)(image)


def _port(output: Any) -> str:
    return f'{output.get_node().get_friendly_name()}:{output.get_index()}'


def _with_bias(output: Any) -> Any:
    """The output after the bias, which OpenVINO adds with a separate operator."""
    readers = [value.get_node() for value in output.get_target_inputs()]
    is_bias = len(readers) == 1 and readers[0].get_type_name() == 'Add' and any(
        value.get_source_output().get_node().get_type_name() in ('Constant', 'Convert')
        for value in readers[0].inputs())
    return readers[0].output(0) if is_bias else output


def _ncnn_nodes(param: Path) -> Iterable[Node]:
    """The layers of a .param file: type, name, numbers of inputs and outputs, and their names."""
    for line in param.read_text(encoding='utf-8').splitlines()[2:]:
        kind, _, inputs, outputs, *names = line.split()
        middle, end = int(inputs), int(inputs) + int(outputs)
        yield Node(names[:middle], names[middle:end],
                   kind in ('Convolution', 'ConvolutionDepthWise', 'InnerProduct'))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]
