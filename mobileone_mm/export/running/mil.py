"""Compute the network of an .mlpackage operator by operator in PyTorch.

Apple's runtime only exists on Apple's systems. This module reads a saved package back and computes
its MIL program from the operators' published definitions, so any machine can find a wrong weight,
padding or order of operations. It does not test Apple's implementation of the operators, nor the
non-maximum suppression stage after a detector's network.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ExportError

Value = Union[Tensor, np.ndarray, Sequence[Any], Any]


def read_network(package: Union[str, Path]) -> Tuple[Any, Any]:
    """The specification of a package, and the ML program of its (first) network."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load
    model = ct.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    network = spec.pipeline.models[0] if spec.WhichOneof('Type') == 'pipeline' else spec
    return spec, load(network, network.specificationVersion, model.weights_dir)


def takes_rgb(image: Any) -> bool:
    """Whether a specification's image input is RGB, not BGR."""
    import coremltools as ct
    return image.type.imageType.colorSpace == ct.proto.FeatureTypes_pb2.ImageFeatureType.RGB


def operations(program: Any) -> List[Any]:
    """The program's operations in order, without the constants."""
    return [op for op in program.functions['main'].operations if op.op_type != 'const']


def run_program(program: Any, image: Tensor, names: Sequence[str] = ()) -> Dict[str, Tensor]:
    """Compute a program.

    Each result is computed in float32 and rounded to its type in the program.

    Args:
        program: A program with one input, from :func:`read_network`.
        image: (1, 3, H, W), 0 to 255, in the package's channel order.
        names: Names of the tensors to return; by default the outputs.

    Returns:
        The tensors by name.

    Raises:
        ExportError: The program has an operator that is not in :data:`OPERATORS`.
    """
    main = program.functions['main']
    values: Dict[str, Tensor] = {name: image.float() for name in main.inputs}
    with torch.no_grad():
        for op in operations(program):
            if op.op_type not in OPERATORS:
                raise ExportError(f'unexpected Core ML operator {op.op_type} ({op.name})')
            inputs = {name: _resolve(var, values) for name, var in op.inputs.items()}
            output = op.outputs[0]
            values[output.name] = _round(OPERATORS[op.op_type](**inputs), output.dtype)
    return {name: values[name] for name in names or [output.name for output in main.outputs]}


def _resolve(var: Any, values: Dict[str, Tensor]) -> Value:
    """The value of an operator's input: a computed tensor, a constant, or a list of these."""
    if isinstance(var, (list, tuple)):
        return [_resolve(item, values) for item in var]
    if var.name in values:
        return values[var.name]
    constant = var.val
    if isinstance(constant, np.ndarray) and constant.dtype.kind == 'f':
        return torch.from_numpy(constant.astype(np.float32))
    return constant


def _round(value: Tensor, dtype: Any) -> Tensor:
    kind = dtype.__name__
    if kind == 'fp16':
        return value.half().float()
    return value.float() if kind == 'fp32' else value


def _conv(x: Tensor, weight: Tensor, *, strides: Sequence[int], pad_type: str, pad: Sequence[int],
          dilations: Sequence[int], groups: int, bias: Any = None) -> Tensor:
    if pad_type == 'custom':
        top, bottom, left, right = (int(p) for p in pad)
        x = F.pad(x, (left, right, top, bottom))
    elif pad_type != 'valid':
        raise ExportError(f'unexpected pad_type {pad_type} of a Core ML convolution')
    return F.conv2d(x, weight, bias, [int(s) for s in strides],
                    dilation=[int(d) for d in dilations], groups=int(groups))


def _slice(x: Tensor, begin: Sequence[int], end: Sequence[int], stride: Any = None,
           begin_mask: Any = None, end_mask: Any = None, squeeze_mask: Any = None) -> Tensor:
    index: List[Any] = []
    for axis in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[axis]:
            index.append(int(begin[axis]))
            continue
        start = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        stop = None if end_mask is not None and end_mask[axis] else int(end[axis])
        index.append(slice(start, stop, 1 if stride is None else int(stride[axis])))
    return x[tuple(index)]


def _upsample(x: Tensor, scale_factor_height: float, scale_factor_width: float,
              align_corners: bool) -> Tensor:
    size = [int(length * factor) for length, factor in
            zip(x.shape[-2:], (scale_factor_height, scale_factor_width))]
    return F.interpolate(x, size=size, mode='bilinear', align_corners=bool(align_corners))


def _ints(values: Sequence[int]) -> List[int]:
    return [int(value) for value in values]


OPERATORS: Dict[str, Callable[..., Tensor]] = dict(
    add=lambda x, y: x + y,
    cast=lambda x, dtype: x,  # _round() does it
    clip=lambda x, alpha, beta: x.clamp(float(alpha), float(beta)),
    concat=lambda values, axis, interleave: torch.cat(values, int(axis)),
    conv=_conv,
    exp=lambda x: x.exp(),
    matmul=lambda x, y, transpose_x, transpose_y: torch.matmul(
        x.transpose(-1, -2) if transpose_x else x, y.transpose(-1, -2) if transpose_y else y),
    mul=lambda x, y: x * y,
    reduce_argmax=lambda x, axis, keep_dims: x.argmax(int(axis), bool(keep_dims)),
    reduce_mean=lambda x, axes, keep_dims: x.mean(_ints(axes), bool(keep_dims)),
    relu=lambda x: x.relu(),
    relu6=lambda x: x.clamp(0, 6),
    reshape=lambda x, shape: x.reshape(_ints(shape)),
    sigmoid=lambda x: x.sigmoid(),
    slice_by_index=_slice,
    softmax=lambda x, axis: x.softmax(int(axis)),
    stack=lambda values, axis: torch.stack(values, int(axis)),
    sub=lambda x, y: x - y,
    transpose=lambda x, perm: x.permute(_ints(perm)),
    upsample_bilinear=_upsample,
)
"""The operators that a folded network may have, as MIL's documentation defines them."""
