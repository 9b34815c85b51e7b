"""Quantize a trained model: turn a checkpoint and its config into an 8-bit file."""

import shutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import torch

from ...backbones.mobileone import MobileOne
from ...utils.libraries import TASKS
from ..backends.phones import phone_graph
from ..errors import ExportError
from ..formats import FORMATS, check_options, require
from ..interface import Interface
from ..job import ExportJob
from ..pipeline import folded_form, load_trained, partial_directory
from .calibration import CalibrationImages
from .equalize import equalize as equalize_layers
from .int8_executorch import quantize_executorch
from .int8_litert import quantize_litert
from .int8_onnx import graph_nodes, layer_errors, quantize_onnx
from .int8_openvino import quantize_openvino, quantized_layers
from .layers import ERROR_IMAGES, LayerError, kept_layers

BACKENDS = ('onnx', 'openvino', 'litert', 'executorch')


@dataclass
class Quantized:
    """The result of quantization.

    Attributes:
        path: The 8-bit file.
        bytes: Its size, including weights.
        float_bytes: Size of the float32 graph.
        layers: Noise of all convolutions, in order; empty for OpenVINO.
        quantized: Number of convolutions that compute in 8 bits.
        equalized: Number of equalized layers.
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
                   out: Union[str, Path], *, images: int = 64, equalize: bool = True,
                   keep: Sequence[str] = ('first', ), per_channel: bool = True,
                   reduce_range: bool = False, dynamic: Sequence[str] = (),
                   cfg_options: Optional[dict] = None) -> Quantized:
    """Fold a trained model, export it and quantize its convolutions to 8 bits.

    Args:
        config: The checkpoint's config.
        checkpoint: Trained or folded weights.
        backend: One of :data:`BACKENDS`.
        out: Directory for the result, which is named after the config.
        images: Number of images from the config's validation set for the ranges of activations.
        equalize: Equalize the backbone's layers first, see :mod:`.equalize`.
        keep: The convolutions that stay in float32, see :func:`.layers.kept_layers`.
        per_channel: ONNX: use a scale for each output channel; other backends always do.
        reduce_range: ONNX: use weights of 7 bits, for x86 without VNNI; NNCF decides itself.
        dynamic: Axes to leave open: 'batch', 'size'; 'size' is added if the images differ in size.
        cfg_options: Changes to the config.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
        ExportError: An option is not supported, a package is missing, or there are no images.
    """
    if backend not in BACKENDS:
        raise ExportError(f'int8 does not support {backend!r}; choose one of '
                          f'{", ".join(BACKENDS)}')
    require(check_options(backend, dynamic))
    cfg, model = load_trained(config, checkpoint, cfg_options)
    calibration = CalibrationImages(cfg, images)
    sizes = {image.shape for image in calibration}
    name = f'{Path(config).stem}_{backend}_int8'
    if len(sizes) > 1 and 'size' not in FORMATS[backend].dynamic:
        raise ExportError(f'{backend} needs a fixed size, but the validation images have '
                          f'{len(sizes)} sizes: add a Resize with keep_ratio=False to the test '
                          'pipeline')
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with partial_directory(out, name) as folder:
        folded, deployed, weights = folded_form(cfg, model, folder)
        equalized = (equalize_layers(folded.backbone)
                     if equalize and isinstance(folded.backbone, MobileOne) else [])
        exporter = FORMATS['onnx' if backend == 'openvino' else backend]
        source = folder / f'float32{exporter.suffix}'
        job = ExportJob(
            exporter.name, TASKS[cfg.default_scope], folded, deployed, weights,
            image=torch.from_numpy(next(iter(calibration))), out=source,
            dynamic=sorted({*dynamic, *(['size'] if len(sizes) > 1 else [])}),
            classes=list(calibration.dataset.metainfo.get('classes', ())))
        import_module(f'..backends.{exporter.module}', __package__).export(job)
        target = folder / f'{name}{FORMATS[backend].suffix}'
        few = CalibrationImages(cfg, min(images, ERROR_IMAGES))
        layers, quantized = _quantize(backend, job, target, calibration, few, keep, per_channel,
                                      reduce_range)
        replace(Interface.read(source), backend=backend).write(target)
        float_bytes = source.stat().st_size
        for path in (source, source.with_suffix('.json')):
            path.unlink()
        shutil.rmtree(folder / 'folded')
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != '.json')
        deployed.dump(folder / f'{name}.py')
    return Quantized(out / target.name, size, float_bytes, layers, quantized, len(equalized))


def _quantize(backend: str, job: ExportJob, target: Path, images: CalibrationImages,
              few: CalibrationImages, keep: Sequence[str], per_channel: bool, reduce_range: bool
              ) -> Tuple[List[LayerError], int]:
    """Write the 8-bit file; returns its layers' noise and how many layers compute in 8 bits."""
    if backend == 'openvino':
        quantize_openvino(job.out, target, images, kept_layers(graph_nodes(job.out), keep))
        return [], quantized_layers(target)
    if backend == 'onnx':
        kept = kept_layers(graph_nodes(job.out), keep)
        quantize_onnx(job.out, target, images, kept, per_channel, reduce_range)
        layers = layer_errors(job.out, target, few)
    elif backend == 'litert':
        layers = quantize_litert(job.out, target, images, few, keep)
    else:
        layers = quantize_executorch(phone_graph(job)[0], target, images, few, keep)
    return layers, sum(layer.quantized for layer in layers)
