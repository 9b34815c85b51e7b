"""Quantize for ExecuTorch with XNNPACK, using PyTorch's quantization of exported graphs."""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ...utils.fileio import atomic_path
from ..quiet import silence
from .layers import LayerError, Node, Noise, kept_layers, layer_names

CONVOLUTION = torch.ops.aten.conv2d.default
ACTIVATIONS = ('relu', 'relu_', 'hardtanh', 'hardtanh_', 'relu6')  # computed with a convolution


def quantize_executorch(graph: nn.Module, target: Path, images: Iterable[np.ndarray],
                        few: Iterable[np.ndarray], keep: Sequence[str] = (),
                        layers: Sequence[str] = ()) -> List[LayerError]:
    """Quantize a graph's convolutions with a scale for each output channel, and write the program.

    Args:
        graph: The graph from :func:`~mobileone_mm.export.backends.phones.phone_graph`.
        target: The .pte file to write.
        images: Inputs (1, 3, H, W) that determine the ranges of activations.
        few: Inputs on which the outputs of all convolutions are compared.
        keep: See :func:`.layers.kept_layers`.
        layers: Names for the convolutions, see :func:`.layers.layer_names`.
    """
    with silence():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    inputs = [torch.from_numpy(np.ascontiguousarray(image)) for image in images]
    with torch.no_grad():
        source, module = (torch.export.export(graph, (inputs[0], )).module() for _ in range(2))
        names = convolutions(source, layers)
        resizes = any('upsample' in str(node.target) for node in source.graph.nodes)
        # XNNPACK takes the wrong axis for the channels when it resizes 8-bit maps.
        kept = set(kept_layers(_nodes(source, names), [*keep, *(['last'] if resizes else [])]))
        quantizer = xnnpack.XNNPACKQuantizer().set_operator_type(
            CONVOLUTION, xnnpack.get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_filter_function(lambda node: names.get(node.name) not in kept)
        with silence():
            prepared = prepare_pt2e(module, quantizer)
            for image in inputs:
                prepared(image)
            quantized = convert_pt2e(prepared)
            program = to_edge_transform_and_lower(
                torch.export.export(quantized, (inputs[0], )), partitioner=[XnnpackPartitioner()])
        with atomic_path(target) as path:
            path.write_bytes(program.to_executorch().buffer)
        return _errors(source, quantized, names, few)


def convolutions(graph: torch.fx.GraphModule, layers: Sequence[str] = ()) -> Dict[str, str]:
    """Map the nodes of convolutions to the names of their modules."""
    paths: Dict[str, str] = {}
    for node in graph.graph.nodes:
        if node.target == CONVOLUTION:
            stack: Dict[str, Tuple[str, Any]] = node.meta.get('nn_module_stack') or {}
            paths[node.name] = list(stack.values())[-1][0] if stack else node.name
    return dict(zip(paths, layer_names(list(paths.values()), layers)))


def _nodes(graph: torch.fx.GraphModule, names: Dict[str, str]) -> List[Node]:
    return [Node([value.name for value in node.all_input_nodes], [node.name],
                 names.get(node.name, '')) for node in graph.graph.nodes]


class _Recorder(torch.fx.Interpreter):
    """Runs a graph and keeps the outputs of some nodes."""

    def __init__(self, graph: torch.fx.GraphModule, names: Iterable[str]) -> None:
        super().__init__(graph)
        self.names = list(names)
        self.found: Dict[str, Any] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names:
            self.found[n.name] = result
        return result

    def outputs(self, image: Tensor) -> List[np.ndarray]:
        self.run(image)
        return [self.found[name].numpy() for name in self.names]


def _written(node: torch.fx.Node) -> str:
    """The node with a convolution's result: its activation, if that is its only reader."""
    users = list(node.users)
    follows = len(users) == 1 and getattr(users[0].target, '__name__', '').split('.')[0] in \
        ACTIVATIONS
    return users[0].name if follows else node.name


def _errors(source: torch.fx.GraphModule, quantized: torch.fx.GraphModule, names: Dict[str, str],
            images: Iterable[np.ndarray]) -> List[LayerError]:
    """Compare the results of all convolutions; the nodes of both graphs have the same names."""
    written = [_written(node) for node in source.graph.nodes if node.name in names]
    noise, sides = Noise(len(names)), [_Recorder(graph, written) for graph in (source, quantized)]
    for image in images:
        noise.add(*(side.outputs(torch.from_numpy(image)) for side in sides))
    in_8_bits = {node.name: 'dequantize' in str(node.args[1].target)  # the kernel
                 for node in quantized.graph.nodes if node.name in names}
    return [LayerError(layer, ratio, in_8_bits[node])
            for (node, layer), ratio in zip(names.items(), noise.decibels())]
