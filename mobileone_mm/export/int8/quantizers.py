"""The packages that quantize, by backend."""

from importlib.util import find_spec

from ..errors import ExportError, MissingPackageError
from ..formats import FORMATS

QUANTIZERS = dict(onnx='onnxruntime', openvino='nncf', litert='ai_edge_quantizer',
                  executorch='torchao')
_EXTRAS = dict(onnx='onnx', openvino='int8', litert='litert', executorch='executorch')


def require_quantizer(backend: str) -> None:
    """Check that 8 bits are possible for a backend, before any work.

    Raises:
        ExportError: There is no quantizer for the backend.
        MissingPackageError: It is not installed; the message names the extra.
    """
    if backend not in QUANTIZERS:
        raise ExportError(f'int8 does not support {backend!r}; choose one of '
                          f'{", ".join(QUANTIZERS)}')
    if find_spec(QUANTIZERS[backend]) is None:
        raise MissingPackageError(f'int8 for {backend} needs {QUANTIZERS[backend]}: pip install '
                                  f"'mobileone_mm[{_EXTRAS[backend]}]'{FORMATS[backend].place}")
