"""8-bit integers for OpenVINO, through NNCF."""

import re
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np

from ..errors import MissingPackageError
from ..quiet import silence

# NNCF would quantize arithmetic on boxes and scores too, which gains no time and costs accuracy.
FLOAT_TYPES = ('Add', 'Subtract', 'Multiply', 'Divide', 'Exp', 'Softmax', 'MatMul', 'Power',
               'ReduceMean', 'Interpolate', 'Sigmoid', 'TopK', 'GatherElements')


def quantize_openvino(source: Path, target: Path, images: Iterable[np.ndarray],
                      keep: Sequence[str] = ()) -> Path:
    """Quantize the convolutions of an ONNX file, with a scale for each output channel.

    NNCF corrects the mean error of each layer (fast bias correction), and by itself narrows the
    weights of a first layer for x86 without VNNI.

    Args:
        source: A float32 .onnx file with one input.
        target: The .xml to write; the .bin goes beside it.
        images: Inputs to find the ranges of activations with.
        keep: Names of ONNX nodes that stay in float32.

    Raises:
        MissingPackageError: NNCF is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise MissingPackageError("int8 for OpenVINO needs nncf: pip install 'mobileone_mm[int8]'"
                                  ) from error
    import openvino
    model = openvino.convert_model(str(source))
    images = list(images)
    ignored = nncf.IgnoredScope(
        patterns=[re.escape(name) + '(/WithoutBiases)?' for name in keep],
        types=list(FLOAT_TYPES), validate=False)
    with silence():
        quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images),
                                  preset=nncf.QuantizationPreset.MIXED, ignored_scope=ignored)
    openvino.save_model(quantized, str(target), compress_to_fp16=False)
    return target


def quantized_layers(path: Path) -> int:
    """How many convolutions of an .xml file compute in 8 bits."""
    import openvino
    model = openvino.Core().read_model(str(path))
    return sum(
        op.get_type_name() in ('Convolution', 'GroupConvolution')
        and op.input_value(0).get_node().get_type_name() == 'FakeQuantize'
        for op in model.get_ordered_ops())
