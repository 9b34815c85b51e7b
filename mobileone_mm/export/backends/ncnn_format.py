"""Export to ncnn with pnnx; decoding is left to the app (``--backend ncnn``).

The graph takes the normalized image and returns what ncnn's layers compute well: scores and deltas
of every anchor, or logits at the head's stride. :mod:`.ssd_decode` and :mod:`.label_map` do the
rest with the settings under ``decode`` in the .json file.
"""

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from ...utils.fileio import atomic_path
from ..errors import ExportError
from ..graphs.models import Normalize, RawDetectorGraph, SegmentorGraph
from ..interface import Interface
from ..job import ExportJob
from ..outside_the_graph.decode_settings import detector_settings, segmentor_settings
from ..outside_the_graph.label_map import label_map
from ..outside_the_graph.ssd_decode import detections


def export(job: ExportJob) -> Path:
    """Write ``job.out``, a .param file, with its .bin and .json.

    With ``job.half`` weights are stored in float16; the app chooses the precision of computation.

    Raises:
        ExportError: pnnx fails, or leaves a batch norm or an operator that ncnn lacks.
    """
    image = Normalize(job.model.data_preprocessor)(job.single_image())
    graph: Union[RawDetectorGraph, SegmentorGraph]
    if job.task == 'detection':
        graph = RawDetectorGraph(job.model, decode=False, normalize=False)
        decode: Dict[str, Any] = detector_settings(job.model, image)
    else:
        graph = SegmentorGraph(job.model, argmax=False, normalize=False)
        decode = segmentor_settings(job.model)
    with tempfile.TemporaryDirectory() as folder:
        param = run_pnnx(graph, image, Path(folder), job.half)
        check_layers(param)
        # Write the .param file last: once it exists, the others do too.
        tensors = [f'out{index}' for index in range(len(graph.output_names))]
        Interface.of(job, graph.output_names, normalized=True, input_tensor='in0',
                     output_tensors=tensors, layout='CHW', **decode).write(job.out)
        for suffix in ('.bin', '.param'):
            with atomic_path(job.out.with_suffix(suffix)) as path:
                shutil.copyfile(param.with_suffix(suffix), path)
    return job.out


def postprocess(outputs: Sequence[np.ndarray], interface: Interface, size: Tuple[int, int]
                ) -> Union[Tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """See :func:`~mobileone_mm.export.running.exported_model.read_outputs`, for ncnn's outputs."""
    if interface.task == 'detection':
        return detections(outputs[0][0], outputs[1][0], interface.settings)
    return label_map(outputs[0][0], size, **interface.decode)


def run_pnnx(graph: nn.Module, image: Tensor, folder: Path, half: bool = False) -> Path:
    """Trace and convert a graph in a separate folder; returns the .param file.

    Raises:
        ExportError: pnnx fails; the message ends with its output.
    """
    import pnnx
    traced = folder / 'graph.pt'
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # shapes that are meant to be constant
        torch.jit.trace(graph, image, check_trace=False).save(str(traced))
    shape = ','.join(str(length) for length in image.shape)
    result = subprocess.run(
        [pnnx.EXEC_PATH, traced.name, f'inputshape=[{shape}]', f'fp16={int(half)}'],
        cwd=folder, capture_output=True, text=True)
    param = folder / 'graph.ncnn.param'
    if result.returncode or not param.is_file():
        raise ExportError(f'pnnx failed (status {result.returncode}): '
                          f'{(result.stdout + result.stderr)[-800:]}')
    return param


def layer_types(param: Path) -> List[str]:
    """The types of the layers in a .param file, in order."""
    lines = param.read_text(encoding='utf-8').splitlines()
    return [line.split()[0] for line in lines[2:] if line.strip()]


def check_layers(param: Path, norms: bool = False) -> None:
    """Raise ExportError for layers that pnnx could not translate and, unless ``norms``, norms."""
    # Untranslated layers keep their PyTorch names, such as F.grid_sample, aten::sort, nn.LSTM.
    wrong = sorted({name for name in layer_types(param)
                    if 'BatchNorm' in name and not norms or not name.isidentifier()})
    if wrong:
        raise ExportError(f'ncnn cannot run these layers of the network: {", ".join(wrong)}')
