"""The table of backends and their options."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Dict, Iterable, Tuple

from .errors import ExportError, MissingPackageError

DYNAMIC = ('batch', 'size')
"""Axes that an exported graph can leave open: the number of images, and their height and width."""

FORMS = ('react-native', )
"""Other forms of a detector's outputs: the three outputs of react-native-executorch."""


@dataclass(frozen=True)
class Format:
    """One backend.

    Attributes:
        name: Name on the command line.
        module: Module of :mod:`.backends` that has ``export(job)``.
        suffix: Suffix of the file (or directory) that it writes.
        runtime: The runtime that :func:`~mobileone_mm.export.running.runtimes.load_runtime` runs it
            with; empty if no runtime on Linux with a CPU can run it.
        extra: The pip extra that installs ``packages``.
        packages: Modules that exporting imports.
        dynamic: The :data:`DYNAMIC` axes that it supports.
        half: Whether it can be exported in float16.
        stand_in: If ``runtime`` is not the backend's own, what the parity check shows. No latency
            is measured then.
        unpinned: Packages that pip has to install with ``--no-deps``.
        forms: The :data:`FORMS` that a detector's outputs can take.
        python: The oldest Python that the packages support.
        place: Where to install the extra, if it cannot share an environment with the others.
    """

    name: str
    module: str
    suffix: str
    runtime: str
    extra: str
    packages: Tuple[str, ...]
    dynamic: Tuple[str, ...] = ()
    half: bool = False
    unpinned: str = ''
    stand_in: str = ''
    forms: Tuple[str, ...] = ()
    python: Tuple[int, int] = (3, 9)
    place: str = ''

    @property
    def install(self) -> str:
        """The command that installs what the backend needs."""
        command = f"pip install 'mobileone_mm[{self.extra}]'"
        if self.unpinned:
            command += f' && pip install --no-deps {self.unpinned}'
        return command + self.place


# mmdeploy pins a protobuf version that no current onnx accepts, so no extra can include it.
MMDEPLOY = 'mmdeploy==1.3.1'

FORMATS: Dict[str, Format] = {f.name: f for f in (
    Format('onnx', 'onnx_format', '.onnx', 'onnxruntime', 'onnx', ('onnx', 'onnxruntime'),
           dynamic=DYNAMIC, half=True),
    Format('openvino', 'openvino_format', '.xml', 'openvino', 'openvino', ('onnx', 'openvino'),
           dynamic=DYNAMIC, half=True),
    Format('onnxruntime', 'mmdeploy_format', '.onnx', 'onnxruntime', 'mmdeploy',
           ('onnx', 'onnxruntime', 'mmdeploy'), dynamic=DYNAMIC, half=True, unpinned=MMDEPLOY),
    Format('tensorrt', 'mmdeploy_format', '.onnx', '', 'mmdeploy', ('onnx', 'mmdeploy'),
           dynamic=DYNAMIC, half=True, unpinned=MMDEPLOY),
    Format('ncnn', 'ncnn_format', '.param', 'ncnn', 'ncnn', ('ncnn', 'pnnx'), half=True),
    Format('litert', 'litert_format', '.tflite', 'litert', 'litert',
           ('litert_torch', 'ai_edge_litert'), python=(3, 11),
           place=', in an environment of its own (in the repository: make env-litert)'),
    Format('executorch', 'executorch_format', '.pte', 'executorch', 'executorch',
           ('executorch', 'torchao'), forms=FORMS, python=(3, 10)),
    Format('coreml', 'coreml_format', '.mlpackage', 'mil', 'coreml', ('coremltools', ), half=True,
           stand_in="Core ML itself needs macOS or iOS and was not run here: the package's network "
           "was computed in PyTorch by MIL's definitions, and mmdet's suppression replaced "
           "Apple's."),
)}


def check_options(name: str, dynamic: Iterable[str] = (), half: bool = False,
                  form: str = '') -> Format:
    """Return the format with a name, after a check that it supports the options.

    Raises:
        ExportError: There is no such backend, or it does not support an option.
    """
    if name not in FORMATS:
        raise ExportError(f'there is no backend {name!r}: choose one of {", ".join(FORMATS)}')
    backend = FORMATS[name]
    for axis in dynamic:
        if axis not in DYNAMIC:
            raise ExportError(f'dynamic {axis!r}: expected {" or ".join(DYNAMIC)}')
        if axis not in backend.dynamic:
            able = ', '.join(f.name for f in FORMATS.values() if axis in f.dynamic)
            raise ExportError(f'{name} needs a fixed {axis}; choose one of {able} to leave it open')
    if half and not backend.half:
        able = ', '.join(f.name for f in FORMATS.values() if f.half)
        raise ExportError(f'{name} does not support float16; choose one of {able}')
    if form and form not in backend.forms:
        able = ', '.join(f'{f.name} ({", ".join(f.forms)})' for f in FORMATS.values() if f.forms)
        raise ExportError(f'{name} does not support the form {form!r}; choose from {able}')
    return backend


def require(backend: Format) -> None:
    """Raise MissingPackageError, with the extra to install, if a backend's packages are missing."""
    if sys.version_info < backend.python:
        raise MissingPackageError(
            f'--backend {backend.name} needs Python {".".join(map(str, backend.python))} or later, '
            f'but this is {sys.version.split()[0]}')
    missing = [package for package in backend.packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f'--backend {backend.name} needs {", ".join(missing)}: {backend.install}')
