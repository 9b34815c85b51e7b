"""Export any PyTorch module to an ONNX file."""

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ...utils.fileio import atomic_path
from ..errors import MissingPackageError

OPSET = 17


def export_onnx(module: nn.Module,
                inputs: Tuple[Tensor, ...],
                path: Union[str, Path],
                input_names: Sequence[str],
                output_names: Sequence[str],
                dynamic_axes: Optional[Dict[str, Dict[int, str]]] = None,
                opset: int = OPSET) -> Path:
    """Trace a module in eval mode and write the checked graph, or nothing if that fails.

    Args:
        module: Any module; fold a MobileOne first. It keeps its mode.
        inputs: Example inputs; axes not in ``dynamic_axes`` keep their sizes.
        path: The file to write. Its directory must exist.
        input_names: A name for each input.
        output_names: A name for each output.
        dynamic_axes: Names of the open axes of inputs and outputs, see ``torch.onnx.export``.
        opset: Version of ONNX's operator set.

    Returns:
        ``path``.

    Raises:
        MissingPackageError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError("ONNX export needs onnx: pip install 'mobileone_mm[onnx]'") \
            from error
    training = module.training
    module.eval()
    try:
        with atomic_path(path) as temporary:
            with torch.no_grad(), _quiet():
                torch.onnx.export(
                    module, tuple(inputs), str(temporary), input_names=list(input_names),
                    output_names=list(output_names), dynamic_axes=dynamic_axes,
                    opset_version=opset, **torchscript_exporter())
            onnx.checker.check_model(str(temporary), full_check=True)
    finally:
        module.train(training)
    return Path(path)


def torchscript_exporter() -> dict:
    """Options that select the tracing exporter, which is not the default since torch 2.9."""
    return dict(dynamo=False) if _digits(torch.__version__) >= (2, 5) else {}


def _digits(version: str) -> Tuple[int, int]:
    """The major and minor number of a version."""
    major, minor = version.split('.')[:2]
    return int(major), int(minor)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the notes on tracing; they concern shapes that are meant to be constant."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.filterwarnings('ignore', message='.*(Constant folding|dynamo|ONNX).*')
        yield
