"""The table of backends, and what may be asked of each."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Dict, Iterable, Tuple

from .errors import ExportError, MissingPackageError

DYNAMIC = ('batch', 'size')
"""What may stay open in an exported graph: the number of images, and their height and width."""

FORMS = ('react-native', )
"""Forms of a detector's outputs beside each backend's own: react-native-executorch's three."""


@dataclass(frozen=True)
class Format:
    """One backend.

    Attributes:
        name: As on the command line.
        module: Module of :mod:`.backends` that has ``export(job)``.
        suffix: Of the file (or directory) that it writes.
        runtime: What :func:`~mobileone_mm.export.running.runtimes.load_runtime` runs it with;
            empty where nothing on Linux with a CPU can.
        extra: The pip extra that brings ``packages``.
        packages: Modules that exporting imports.
        dynamic: Which of :data:`DYNAMIC` it supports.
        half: Whether it can be exported in float16.
        stand_in: Where ``runtime`` is not the backend's own: what the parity check then shows. No
            latency is measured.
        unpinned: Packages that pip has to install with ``--no-deps``.
        forms: Which of :data:`FORMS` a detector's outputs may have.
        python: The oldest Python that the packages run on.
        place: Where the extra goes, if not beside those of all others.
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


# mmdeploy pins a protobuf that no current onnx accepts, so that no extra can name it.
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
           "was computed in PyTorch by MIL's definitions, and mmdet's suppression stood in for "
           "Apple's."),
)}


def check_options(name: str, dynamic: Iterable[str] = (), half: bool = False,
                  form: str = '') -> Format:
    """The format of a name, once it is clear that it can do what is asked of it.

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
            raise ExportError(f'{name} is exported for a fixed {axis}; dynamic: {able}')
    if half and not backend.half:
        able = ', '.join(f.name for f in FORMATS.values() if f.half)
        raise ExportError(f'{name} is not exported in float16; these are: {able}')
    if form and form not in backend.forms:
        able = ', '.join(f'{f.name} ({", ".join(f.forms)})' for f in FORMATS.values() if f.forms)
        raise ExportError(f'{name} has no form {form!r}; these have one: {able}')
    return backend


def require(backend: Format) -> None:
    """Raise MissingPackageError, naming the extra, unless a backend's packages are installed."""
    if sys.version_info < backend.python:
        raise MissingPackageError(
            f'--backend {backend.name} needs Python {".".join(map(str, backend.python))} or later, '
            f'this is {sys.version.split()[0]}')
    missing = [package for package in backend.packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f'--backend {backend.name} needs {", ".join(missing)}: {backend.install}')
