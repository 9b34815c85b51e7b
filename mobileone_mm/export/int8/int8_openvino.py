"""Quantize for OpenVINO with NNCF."""

import re
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np

from ..backends.openvino_format import request_float32
from ..quiet import silence

# NNCF would also quantize arithmetic on boxes and scores, which saves no time and costs accuracy.
FLOAT_TYPES = ('Add', 'Subtract', 'Multiply', 'Divide', 'Exp', 'Softmax', 'MatMul', 'Power',
               'ReduceMean', 'Interpolate', 'Sigmoid', 'TopK', 'GatherElements')


def quantize_openvino(source: Path, target: Path, images: Iterable[np.ndarray],
                      keep: Sequence[str] = ()) -> Path:
    """Quantize the convolutions of an ONNX file with a scale for each output channel.

    NNCF corrects the mean error of each layer (fast bias correction). It narrows the weights of a
    first layer for x86 without VNNI.

    Args:
        source: A float32 .onnx file with one input.
        target: The .xml file to write; the .bin file goes next to it.
        images: Inputs that determine the ranges of activations.
        keep: Names of ONNX nodes that stay in float32.
    """
    import nncf
    import openvino
    model = openvino.convert_model(str(source))
    images = list(images)
    ignored = nncf.IgnoredScope(
        patterns=[re.escape(name) + '(/WithoutBiases)?' for name in keep],
        types=list(FLOAT_TYPES), validate=False)
    with silence():
        quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images),
                                  preset=nncf.QuantizationPreset.MIXED, ignored_scope=ignored)
    request_float32(quantized)
    openvino.save_model(quantized, str(target), compress_to_fp16=False)
    return target


def quantized_layers(path: Path) -> int:
    """The number of convolutions in an .xml file that compute in 8 bits."""
    import openvino
    model = openvino.Core().read_model(str(path))
    return sum(
        op.get_type_name() in ('Convolution', 'GroupConvolution')
        and op.input_value(0).get_node().get_type_name() == 'FakeQuantize'
        for op in model.get_ordered_ops())
