"""Quantize for LiteRT with ai-edge-quantizer."""

import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

import numpy as np

from ...utils.fileio import atomic_path
from ..quiet import silence
from .layers import LayerError, Node, Noise, kept_layers, layer_names

CONVOLUTIONS = ('CONV_2D', 'DEPTHWISE_CONV_2D')
# Padding for a stride of 2 sits between two convolutions; everything else stays in float32.
OPERATORS = (*CONVOLUTIONS, 'PAD')


def quantize_litert(source: Path, target: Path, images: Iterable[np.ndarray],
                    few: Iterable[np.ndarray], keep: Sequence[str] = (),
                    layers: Sequence[str] = ()) -> List[LayerError]:
    """Quantize a file's convolutions with a scale for each output channel.

    Args:
        source: A float32 .tflite file with one input (1, H, W, 3).
        target: The .tflite file to write.
        images: Inputs (1, 3, H, W) that determine the ranges of activations.
        few: Inputs on which the outputs of all convolutions are compared.
        keep: See :func:`.layers.kept_layers`.
        layers: Names for the convolutions, see :func:`.layers.layer_names`.
    """
    with silence():
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe_manager
    graph = _Graph(source.read_bytes(), layers)
    recipe = recipe_manager.RecipeManager()
    for operator in OPERATORS:
        recipe.add_static_config('.*', qtyping.TFLOperationName[operator], activation_num_bits=8,
                                 weight_num_bits=8)
    for tensor in graph.computing(kept_layers(graph.nodes(), keep)):
        for operator in OPERATORS:
            recipe.add_quantization_config(
                f'^{re.escape(tensor)};?$', qtyping.TFLOperationName[operator],
                algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    with silence(), atomic_path(target) as path:
        job = quantizer.Quantizer(str(source))
        job.load_quantization_recipe(recipe.get_quantization_recipe())
        ranges = job.calibrate({graph.signature: _samples(graph.input, images)}, num_threads=1)
        _widen(ranges)
        content = job.quantize(ranges).quantized_model
        path.write_bytes(content)
    return _errors(graph, _Graph(bytes(content), layers), few)


def _samples(name: str, images: Iterable[np.ndarray]) -> List[Dict[str, np.ndarray]]:
    return [{name: np.ascontiguousarray(image.transpose(0, 2, 3, 1))} for image in images]


def _widen(ranges: Dict[str, Any]) -> None:
    """Give tensors that are always 0 a range, in place: LiteRT loads no file with a scale of 0.

    Squeeze-and-excitation has such tensors if none of its ReLUs lets anything through.
    """
    for found in ranges.values():
        if not np.any(found['min']) and not np.any(found['max']):
            found['max'] = np.ones_like(found['max'])


class _Graph:
    """A .tflite file that runs operator by operator, without XNNPACK, which hides inner tensors.

    Attributes:
        signature: Name of its only signature.
        input: Name of its input.
        outputs: Indices of the convolutions' outputs, by name of the convolution.
    """

    def __init__(self, content: bytes, layers: Sequence[str] = ()) -> None:
        with silence():
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
            self.interpreter = Interpreter(
                model_content=content, num_threads=1, experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
            self.interpreter.allocate_tensors()
        (self.signature, ends), = self.interpreter.get_signature_list().items()
        self.input = ends['inputs'][0]
        self.details: Dict[int, Any] = {
            tensor['index']: tensor for tensor in self.interpreter.get_tensor_details()}
        self.operators = self.interpreter._get_ops_details()  # there is no public function for it
        written = [operator['outputs'][0] for operator in self.operators
                   if operator['op_name'] in CONVOLUTIONS]
        found = [layer_name(self.details[index]['name']) for index in written]
        self.outputs = dict(zip(layer_names(found, layers), written))

    def nodes(self) -> List[Node]:
        """The operators in order."""
        names = {index: name for name, index in self.outputs.items()}
        return [Node(list(operator['inputs']), list(operator['outputs']),
                     names.get(operator['outputs'][0], '')) for operator in self.operators]

    def computing(self, names: Sequence[str]) -> List[str]:
        """The outputs of convolutions and of the padding before them."""
        pads = {operator['outputs'][0] for operator in self.operators
                if operator['op_name'] == 'PAD'}
        written = {self.outputs[name] for name in names}
        read = {operator['inputs'][0] for operator in self.operators
                if operator['outputs'][0] in written}
        return [self.details[index]['name'] for index in written | read & pads]

    def values(self, image: np.ndarray) -> List[np.ndarray]:
        """The outputs of all convolutions for an image (1, 3, H, W), in float32."""
        last = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        self.interpreter.get_signature_runner()(**{self.input: last})
        return [self._value(index) for index in self.outputs.values()]

    def _value(self, index: int) -> np.ndarray:
        value = self.interpreter.get_tensor(index).astype(np.float32)
        scale, zero_point = self.details[index]['quantization']
        return (value - zero_point) * scale if scale else value

    def in_8_bits(self) -> List[bool]:
        """Whether each convolution computes in 8 bits."""
        return [self.details[index]['dtype'] == np.int8 for index in self.outputs.values()]


def layer_name(tensor: str) -> str:
    """Extract the steps to a module from a tensor's name in a file.

    LiteRT's names look like
    ``pkg.Graph/pkg.Graph_network/pkg.MobileOne_backbone/pkg.Block_0/...;``. The names of lists are
    missing, and often the last step, because a convolution is merged with the activation after it.
    """
    steps = [step.split('.')[-1].partition('_')[2] for step in tensor.split(';')[0].split('/')
             if not step.startswith('mobileone_mm.export.')]
    return '.'.join(step for step in steps if step not in ('', 'activation', 'activate')) or tensor


def _errors(source: _Graph, quantized: _Graph, images: Iterable[np.ndarray]) -> List[LayerError]:
    noise = Noise(len(source.outputs))
    for image in images:
        noise.add(source.values(image), quantized.values(image))
    return [LayerError(*layer) for layer in
            zip(source.outputs, noise.decibels(), quantized.in_8_bits())]
