"""Post-training quantization: checkpoint and config in, an 8-bit file and its errors out."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Sequence, Union

import torch

from ...backbones.mobileone import MobileOne
from ...utils.libraries import TASKS
from ..backends import onnx_format
from ..errors import ExportError
from ..formats import FORMATS, check_options, require
from ..interface import Interface
from ..job import ExportJob
from ..pipeline import folded_form, load_trained, partial_directory
from .calibration import CalibrationImages
from .equalize import equalize as equalize_layers
from .int8_onnx import LayerError, kept_layers, layer_errors, quantize_onnx
from .int8_openvino import quantize_openvino, quantized_layers

BACKENDS = ('onnx', 'openvino')
ERROR_IMAGES = 4  # for the errors of layers


@dataclass
class Quantized:
    """The outcome.

    Attributes:
        path: The 8-bit file.
        bytes: Its size, weights included.
        float_bytes: That of the float32 graph.
        layers: Errors of all convolutions, in their order; empty for OpenVINO.
        quantized: How many convolutions compute in 8 bits.
        equalized: How many layers were equalized.
    """

    path: Path
    bytes: int
    float_bytes: int
    layers: List[LayerError]
    quantized: int
    equalized: int

    def __str__(self) -> str:
        lines = [f'{self.path}: {self.bytes:,} bytes (float32: {self.float_bytes:,}), '
                 f'{self.quantized} convolutions in 8 bits, {self.equalized} layers equalized']
        if self.layers:
            lines.append('Signal to quantization noise of each convolution, in dB:')
            lines += [f'{layer.sqnr_db:6.1f}  {"int8   " if layer.quantized else "float32"}  '
                      f'{layer.name}' for layer in self.layers]
        return '\n'.join(lines)


def quantize_model(config: Union[str, Path], checkpoint: Union[str, Path], backend: str,
                   out: Union[str, Path], images: int = 64, equalize: bool = True,
                   keep: Sequence[str] = ('first', ), per_channel: bool = True, reduce_range: bool = False,
                   dynamic: Sequence[str] = (), cfg_options: Optional[dict] = None) -> Quantized:
    """Fold a trained model, export it to ONNX and quantize its convolutions to 8 bits.

    Args:
        config: The config that the checkpoint belongs to.
        checkpoint: Trained or folded weights.
        backend: One of :data:`BACKENDS`.
        out: Directory for the result, which is named after the config.
        images: How many images of the config's validation set find the ranges of activations.
        equalize: Equalize the backbone's layers first, see :mod:`.equalize`.
        keep: The convolutions that stay in float32, see :func:`.int8_onnx.kept_layers`.
        per_channel: ONNX: a scale for each output channel; OpenVINO always has one.
        reduce_range: ONNX: weights of 7 bits, for x86 without VNNI; NNCF decides by itself.
        dynamic: Axes to keep open: 'batch', 'size'; the latter also where images differ in size.
        cfg_options: Changes of the config.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
        ExportError: An option is not supported, a package is missing, or there are no images.
    """
    if backend not in BACKENDS:
        raise ExportError(f'int8 is made for {" and ".join(BACKENDS)}, not for {backend!r}')
    require(check_options(backend, dynamic))
    cfg, model = load_trained(config, checkpoint, cfg_options)
    calibration = CalibrationImages(cfg, images)
    sizes = {image.shape for image in calibration}
    name = f'{Path(config).stem}_{backend}_int8'
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with partial_directory(out, name) as folder:
        folded, deployed, weights = folded_form(cfg, model, folder)
        equalized = (equalize_layers(folded.backbone)
                     if equalize and isinstance(folded.backbone, MobileOne) else [])
        source = onnx_format.export(ExportJob(
            'onnx', TASKS[cfg.default_scope], folded, deployed, weights,
            image=torch.from_numpy(next(iter(calibration))), out=folder / 'float32.onnx',
            dynamic=sorted({*dynamic, *(['size'] if len(sizes) > 1 else [])}),
            classes=list(calibration.dataset.metainfo.get('classes', ()))))
        in_float = kept_layers(source, keep)
        target = folder / f'{name}{FORMATS[backend].suffix}'
        layers: List[LayerError] = []
        if backend == 'onnx':
            quantize_onnx(source, target, calibration, in_float, per_channel, reduce_range)
            few = CalibrationImages(cfg, min(images, ERROR_IMAGES))
            layers = layer_errors(source, target, few)
            quantized = sum(layer.quantized for layer in layers)
        else:
            quantize_openvino(source, target, calibration, in_float)
            quantized = quantized_layers(target)
        replace(Interface.read(source), backend=backend).write(target)
        float_bytes = source.stat().st_size
        for path in (source, source.with_suffix('.json')):
            path.unlink()
        shutil.rmtree(folder / 'folded')
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != '.json')
        deployed.dump(folder / f'{name}.py')
    return Quantized(out / target.name, size, float_bytes, layers, quantized, len(equalized))
