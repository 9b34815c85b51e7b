"""Export to ONNX Runtime and TensorRT with mmdeploy and the deploy configs in configs/deploy.

The .onnx file takes normalized RGB and has mmdeploy's outputs, so ``mmdeploy.apis`` and its SDK
can read it. For TensorRT, this module only writes and checks the .onnx file. mmdeploy's
``onnx2tensorrt`` builds the engine from it on a machine with TensorRT; that was not run here.
"""

import contextlib
import logging
from pathlib import Path
from typing import Iterator, Sequence

from mmengine.config import Config

from ...utils.configs import config_directory
from ..graphs.models import check_whole
from ..interface import Interface
from ..job import ExportJob


def export(job: ExportJob) -> Path:
    """Write ``job.out``, an .onnx file, with its deploy config and its interface.

    Raises:
        ExportError: The segmentor uses sliding windows, which mmdeploy would silently drop.
    """
    if job.task == 'segmentation':
        check_whole(job.model)
    import onnx
    from mmdeploy.apis import torch2onnx
    from mmdeploy.utils import get_root_logger
    get_root_logger(log_level=logging.ERROR)
    deploy_cfg = mmdeploy_config(job)
    with _any_device():
        torch2onnx([job.source] * len(job.image), str(job.out.parent), job.out.name, deploy_cfg,
                   _model_config(job), str(job.weights), 'cpu')
    outputs = deploy_cfg.onnx_config.output_names
    if job.half and job.backend == 'onnxruntime':
        _to_half(job)
    # The checker's shape inference does not know the operators of mmdeploy's TensorRT plugins.
    onnx.checker.check_model(str(job.out), full_check=job.backend == 'onnxruntime')
    deploy_cfg.dump(job.out.with_suffix('.deploy.py'))
    Interface.of(job, outputs, normalized=True, input_tensor='input').write(job.out)
    return job.out


@contextlib.contextmanager
def _any_device() -> Iterator[None]:
    """Keep mmdeploy from requiring a GPU for TensorRT; it traces on the CPU."""
    from mmdeploy.apis.utils import utils
    check = utils.check_backend_device
    utils.check_backend_device = lambda *args, **kwargs: None
    try:
        yield
    finally:
        utils.check_backend_device = check


def _to_half(job: ExportJob) -> None:
    """Cast the network with ONNX Runtime's own converter; decoding and suppression stay float32.

    mmdeploy's converter needs onnxconverter-common, which pins a protobuf version that no current
    onnx accepts.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel
    model = onnx.load(str(job.out))
    network = {'Conv', 'Relu', 'Clip'}  # decoding also has Add and Mul
    if job.task == 'segmentation':
        network |= {'Add', 'Mul', 'Sigmoid', 'GlobalAveragePool', 'Concat'}
    others = sorted({node.op_type for node in model.graph.node} - network)
    half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=others))
    half.topological_sort()  # the converter appends its casts at the end
    onnx.save(half.model, str(job.out))


def mmdeploy_config(job: ExportJob) -> Config:
    """The deploy config from configs/deploy for a job.

    Raises:
        FileNotFoundError: The directory of deploy configs does not exist.
    """
    kind = 'dynamic' if job.dynamic else 'static'
    cfg = Config.fromfile(config_directory('deploy') / f'{job.task}_{job.backend}_{kind}.py')
    height, width = job.image.shape[-2:]
    spatial: Sequence[int] = (2, 3) if job.task == 'segmentation' else ()
    outputs = {name: spatial for name in cfg.onnx_config.output_names}
    if job.half and job.backend == 'tensorrt':
        cfg.backend_config.common_config.fp16_mode = True
    if job.dynamic:
        cfg.onnx_config.dynamic_axes = job.dynamic_axes('input', outputs)
    if 'size' not in job.dynamic:
        cfg.onnx_config.input_shape = (width, height)
    if job.backend == 'tensorrt':
        _set_profile(cfg, job)
    return cfg


def _set_profile(cfg: Config, job: ExportJob) -> None:
    """Set TensorRT's range of shapes: the config's range on open axes, else the example's shape."""
    shapes = cfg.backend_config.model_inputs[0].input_shapes.input
    example = list(job.image.shape)
    for name in ('min_shape', 'opt_shape', 'max_shape'):
        shapes[name] = [
            shapes[name][axis] if kind in job.dynamic else example[axis]
            for axis, kind in enumerate(('batch', 'channels', 'size', 'size'))]


def _model_config(job: ExportJob) -> Config:
    """The model config with ``test_pipeline`` at the top level, where mmdeploy looks for it."""
    cfg = Config(job.cfg.to_dict())
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    return cfg
