"""Turn a module into a call that runs it once in a backend."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Optional

import numpy as np
import torch
from torch import Tensor

from ...export import FORMATS, ParityError, require
from ...export.backends.executorch_format import write_executorch
from ...export.backends.litert_format import write_litert
from ...export.backends.ncnn_format import check_layers, run_pnnx
from ...export.graphs.trace import export_onnx
from ...export.running.runtimes import load_runtime
from ...folding.verify import relative_difference
from . import forms
from .networks import Network

__all__ = ['BACKENDS', 'Preparer', 'check_backends']

TOLERANCE = 1e-2
"""Largest accepted difference of a backend's logits, relative to the largest logit."""

BACKENDS = {'torch': '', 'onnxruntime': 'onnx', 'openvino': 'openvino', 'ncnn': 'ncnn',
            'litert': 'litert', 'executorch': 'executorch'}
"""Backends, and the export format that each runs; torch runs the module itself."""

PHONES = ('litert', 'executorch')


def check_backends(names: Iterable[str]) -> None:
    """Refuse backends that are unknown or not installed, before any work.

    Raises:
        ValueError: The name is unknown.
        mobileone_mm.export.MissingPackageError: A package is missing; the message names the extra.
    """
    for name in names:
        if name not in BACKENDS:
            raise ValueError(f'backend must be one of {list(BACKENDS)}, got {name!r}')
        if BACKENDS[name]:
            require(FORMATS[BACKENDS[name]])


class Preparer:
    """Build a network once, and a call of it for each backend.

    Args:
        network: A network of the table.
        folder: Folder for exported files; each object creates its own inside.
        batch: Images per call.
        size: Height and width of the images, in pixels.
        threads: Threads per call. PyTorch uses those of the process, which the caller sets.
    """

    def __init__(self, network: Network, folder: Path, batch: int = 1,
                 size: Optional[int] = None, threads: int = 1) -> None:
        self.network, self.folder, self.threads = network, folder, threads
        self.module = forms.build(network)
        size = size or network.size
        generator = torch.Generator().manual_seed(0)
        self.image = torch.rand(batch, 3, size, size, generator=generator)
        if network.family in ('detectors', 'segmentors'):
            self.image = 255 * self.image  # the graph normalizes
        self._onnx: Dict[str, Path] = {}

    def call(self, backend: str) -> Callable[[], Any]:
        """A call that runs the network once, with arrays of the host as input and output.

        Raises:
            mobileone_mm.export.ExportError: The network cannot be exported to this backend.
        """
        if backend == 'torch':
            return torch.inference_mode()(lambda: self.module(self.image))
        path = (self._ncnn() if backend == 'ncnn' else
                self._of_phones(backend) if backend in PHONES else self.onnx(backend))
        runtime = load_runtime(backend, path, self.threads)
        array = np.ascontiguousarray(self.image.numpy())
        return lambda: runtime(array)

    def check(self, outputs: Any) -> None:
        """Compare a classifier's logits with PyTorch's: there is no point in timing a wrong model.

        Raises:
            mobileone_mm.export.ParityError: They differ by more than ``TOLERANCE``.
        """
        if self.network.family in ('detectors', 'segmentors'):
            return  # their exports are compared with PyTorch anyway
        expected = self.call('torch')()
        logits = torch.as_tensor(outputs if isinstance(outputs, Tensor) else outputs[0])
        change = relative_difference(expected, logits.reshape(expected.shape))
        if not change <= TOLERANCE:
            raise ParityError(f"its logits differ from PyTorch's by {change:.0e} of the largest")

    def onnx(self, backend: str = 'onnxruntime', in_8_bits: bool = False) -> Path:
        """Export the network to ONNX, as for this backend; ``in_8_bits``: to be quantized."""
        pick = 'argmax'
        if hasattr(self.module, 'pick'):
            pick = 'topk' if backend == 'openvino' else 'max' if in_8_bits else 'argmax'
        if pick not in self._onnx:
            module = forms.with_pick(self.module, pick)
            outputs = self.call('torch')()
            count = 1 if isinstance(outputs, Tensor) else len(outputs)
            self._onnx[pick] = export_onnx(
                module, (self.image, ), self.folder / f'{self.network.name}_{pick}.onnx',
                ['image'], [f'output{i}' for i in range(count)])
        return self._onnx[pick]

    def _ncnn(self) -> Path:
        """Export the network to ncnn: detectors and segmentors up to their raw outputs."""
        folder = self.folder / f'{self.network.name}_ncnn'
        folder.mkdir(exist_ok=True)
        param = run_pnnx(forms.without_ends(self.module), self.image, folder)
        check_layers(param, norms=True)
        return param

    def _of_phones(self, backend: str) -> Path:
        """The network as LiteRT's or ExecuTorch's file: detectors up to the decoded boxes."""
        module = forms.for_phones(self.module, self.image)
        path = self.folder / f'{self.network.name}{FORMATS[backend].suffix}'
        if backend == 'executorch':
            write_executorch(module, self.image, path)
        else:
            write_litert(module, self.image, path, getattr(module, 'output_names', ('logits', )))
        return path
