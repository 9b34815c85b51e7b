"""Quantize a trained model: turn a checkpoint and its config into an 8-bit file."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch

from ...backbones.mobileone import MobileOne
from ...utils.libraries import TASKS
from ..backends.phones import phone_graph
from ..description import package_versions
from ..errors import ExportError
from ..formats import FORMATS, check_options, require
from ..interface import Interface
from ..job import ExportJob
from ..pipeline import partial_directory, write_file
from ..trained import Trained
from .calibration import CalibrationImages
from .equalize import equalize as equalize_layers
from .int8_executorch import quantize_executorch
from .int8_litert import quantize_litert
from .int8_onnx import graph_nodes, layer_errors, name_layers, quantize_onnx
from .int8_openvino import quantize_openvino, quantized_layers
from .layers import ERROR_IMAGES, LayerError, check_keep, convolutions_of, kept_layers
from .quantizers import QUANTIZERS, require_quantizer

GRAPHS: Dict[str, Dict[str, str]] = dict(
    onnx=dict(pick='max'), openvino=dict(module='onnx_format', pick='topk'))
"""Arguments of :func:`.write_file` for float32 graphs that are not those of an export."""


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
        backend: One of :data:`.quantizers.QUANTIZERS`.
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
    require_quantizer(backend)
    require(check_options(backend, dynamic))
    trained = Trained(config, checkpoint, cfg_options)
    calibration = CalibrationImages(trained.cfg, images)
    name = f'{trained.name}_{backend}_int8'
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with partial_directory(out, name) as folder:
        folded, deployed, weights = trained.folded(folder)
        image = torch.from_numpy(next(iter(calibration)))
        layers = convolutions_of(folded, image)
        check_keep([layer.partition('@')[0] for layer in keep], layers)
        axes = axes_to_open(backend, dynamic, calibration)
        equalized = (equalize_layers(folded.backbone)
                     if equalize and isinstance(folded.backbone, MobileOne) else [])
        target = folder / f'{name}{FORMATS[backend].suffix}'
        source = folder / ('float32' + ('.onnx' if backend == 'openvino' else target.suffix))
        job = ExportJob(
            backend, TASKS[trained.cfg.default_scope], folded, deployed, weights, image=image,
            out=source, dynamic=axes, classes=list(calibration.dataset.metainfo.get('classes', ())))
        write_file(job, **GRAPHS.get(backend, {}))
        if source.suffix == '.onnx':
            name_layers(source, layers)
        few = CalibrationImages(trained.cfg, min(images, ERROR_IMAGES))
        noise, quantized = _quantize(job, target, calibration, few, keep, layers,
                                     per_channel=per_channel, reduce_range=reduce_range)
        _describe(job, target)
        float_bytes = source.stat().st_size
        for path in (source, source.with_suffix('.json')):
            path.unlink()
        shutil.rmtree(folder / 'folded')
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != '.json')
        deployed.dump(folder / f'{name}.py')
    return Quantized(out / target.name, size, float_bytes, noise, quantized, len(equalized))


def axes_to_open(backend: str, dynamic: Sequence[str], images: CalibrationImages) -> List[str]:
    """The axes to leave open: 'size' too if the images differ in size.

    Raises:
        ExportError: They do, but the backend needs a fixed size.
    """
    sizes = {image.shape for image in images}
    if len(sizes) == 1:
        return sorted(dynamic)
    if 'size' not in FORMATS[backend].dynamic:
        able = ', '.join(name for name in QUANTIZERS if 'size' in FORMATS[name].dynamic)
        raise ExportError(f'{backend} needs a fixed size, but the validation images have '
                          f'{len(sizes)} sizes: add a Resize with keep_ratio=False to the test '
                          f'pipeline, or choose one of {able}')
    return sorted({*dynamic, 'size'})


def _quantize(job: ExportJob, target: Path, images: CalibrationImages, few: CalibrationImages,
              keep: Sequence[str], layers: Sequence[str], **onnx: bool
              ) -> Tuple[List[LayerError], int]:
    """Write the 8-bit file; returns its layers' noise and how many layers compute in 8 bits."""
    if job.backend == 'openvino':
        quantize_openvino(job.out, target, images, kept_layers(graph_nodes(job.out), keep))
        return [], quantized_layers(target)
    if job.backend == 'onnx':
        kept = kept_layers(graph_nodes(job.out), keep)
        quantize_onnx(job.out, target, images, kept, **onnx)
        noise = layer_errors(job.out, target, few)
    elif job.backend == 'litert':
        noise = quantize_litert(job.out, target, images, few, keep, layers)
    else:
        noise = quantize_executorch(phone_graph(job)[0], target, images, few, keep, layers)
    return noise, sum(layer.quantized for layer in noise)


def _describe(job: ExportJob, target: Path) -> None:
    """Write the interface of the 8-bit file: the float32 graph's, and what quantized it."""
    interface = Interface.read(job.out)
    interface.versions.update(package_versions([QUANTIZERS[job.backend]]))
    interface.write(target)
