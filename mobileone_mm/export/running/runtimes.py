"""A common interface to all runtimes: NumPy arrays in, NumPy arrays out."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np
import torch

from ..errors import ExportError, MissingPackageError
from ..quiet import silence


class Runtime:
    """A loaded graph; call it with one array per input, in the order of ``input_names``.

    Attributes:
        input_names: Names of the inputs.
        output_names: Names of the outputs.
    """

    input_names: List[str]
    output_names: List[str]

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """The outputs, in the order of ``output_names``."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict) -> 'Runtime':
        """Return the runtime itself: hooks copy models, and a loaded graph never changes."""
        return self


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU; takes a file or its content."""

    def __init__(self, path: Union[Path, bytes], threads: Optional[int] = None) -> None:
        import onnxruntime
        self.path: Any = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(
            path if isinstance(path, bytes) else str(path), options,
            providers=['CPUExecutionProvider'])
        self.input_names = [i.name for i in self.session.get_inputs()]
        self.output_names = [o.name for o in self.session.get_outputs()]

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        return self.session.run(None, dict(zip(self.input_names, arrays)))


OPENVINO_OPTIONS = dict(INFERENCE_PRECISION_HINT='f32')
"""Without them, OpenVINO computes in bfloat16, with 8 bits of precision, on CPUs that have it."""


class OpenVINO(Runtime):
    """OpenVINO on the CPU, in float32 whatever the CPU prefers.

    Args:
        path: A file or an ``openvino.Model``.
        threads: See :func:`load_runtime`.
        precision: Precision of computation: 'f32', or 'bf16' if the CPU has it.
    """

    def __init__(self, path: Any, threads: Optional[int] = None,
                 precision: str = OPENVINO_OPTIONS['INFERENCE_PRECISION_HINT']) -> None:
        import openvino
        self.path = path
        config: Dict[str, Any] = dict(
            PERFORMANCE_HINT='LATENCY', INFERENCE_PRECISION_HINT=precision)
        if threads:
            config.update(INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1)
        model = str(path) if isinstance(path, Path) else path
        self.compiled = openvino.Core().compile_model(model, 'CPU', config)
        self.request = self.compiled.create_infer_request()
        self.input_names, self.output_names = (
            [port.get_any_name() if port.get_names() else '' for port in ports]
            for ports in (self.compiled.inputs, self.compiled.outputs))

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        results = self.request.infer(list(arrays))
        return [np.array(results[output]) for output in self.compiled.outputs]


class Ncnn(Runtime):
    """ncnn on the CPU, in float32 whatever the CPU prefers.

    ncnn has no batches, so images run one at a time.
    """

    def __init__(self, path: Path, threads: Optional[int] = None) -> None:
        import ncnn
        self.path = path
        self.ncnn, self.net = ncnn, ncnn.Net()
        options = self.net.opt
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if threads:
            options.num_threads = threads
        weights = path.with_suffix('.bin')
        if self.net.load_param(str(path)) or self.net.load_model(str(weights)):
            raise ExportError(f'{path.name} and {weights.name} do not belong together')
        self.input_names, self.output_names = self.net.input_names(), self.net.output_names()

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        return [np.stack(outputs) for outputs in zip(
            *(self.extract(image, self.output_names) for image in arrays[0]))]

    def extract(self, image: np.ndarray, names: Sequence[str]) -> List[np.ndarray]:
        """The named outputs or inner tensors of the network for an image (3, H, W)."""
        outputs = []
        with self.net.create_extractor() as extractor:
            extractor.input(self.input_names[0],
                            self.ncnn.Mat(np.ascontiguousarray(image, np.float32)))
            for name in names:
                status, output = extractor.extract(name)
                if status:
                    raise ExportError(f'ncnn cannot compute its output {name}')
                outputs.append(np.array(output))  # a copy: ncnn reuses its memory
        return outputs


class MilProgram(Runtime):
    """An .mlpackage's network in PyTorch (:mod:`.mil`), not Apple's runtime.

    Takes BGR images like the other runtimes and converts them to the package's channel order. It
    leaves out a detector's suppression stage.
    """

    def __init__(self, path: Path, threads: Optional[int] = None) -> None:
        from . import mil
        self.run_program = mil.run_program
        spec, self.program = mil.read_network(path)
        self.operations = mil.operations(self.program)
        image = spec.description.input[0]
        self.rgb = mil.takes_rgb(image)
        self.input_names = [image.name]
        self.output_names = [output.name for output in self.program.functions['main'].outputs]

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        per_image = [self.extract(image[None], self.output_names) for image in arrays[0]]
        return [np.stack(outputs) for outputs in zip(*per_image)]

    def extract(self, image: np.ndarray, names: Sequence[str]) -> List[np.ndarray]:
        """The named outputs or inner tensors of the network for an image (1, 3, H, W)."""
        tensor = torch.from_numpy(image)
        values = self.run_program(self.program, tensor.flip(1) if self.rgb else tensor, names)
        return [values[name].numpy() for name in names]


class LiteRT(Runtime):
    """LiteRT on the CPU with XNNPACK; converts images (N, 3, H, W) to channels last."""

    def __init__(self, path: Path, threads: Optional[int] = None) -> None:
        with silence():
            from ai_edge_litert.interpreter import Interpreter
            # LiteRT keeps files mapped that it opens by path, and crashes when they are replaced.
            self.interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
            self.interpreter.allocate_tensors()
            self.signature = self.interpreter.get_signature_runner()
        self.input_names = list(self.signature.get_input_details())
        self.output_names = sorted(self.signature.get_output_details())

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        last = [np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for array in arrays]
        outputs = self.signature(**dict(zip(self.input_names, last)))
        return [outputs[name] for name in self.output_names]


class ExecuTorch(Runtime):
    """ExecuTorch on the CPU with XNNPACK; ``threads`` applies to the whole process.

    A program has no names for inputs and outputs.
    """

    def __init__(self, path: Path, threads: Optional[int] = None) -> None:
        with silence():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime as Loader
            if threads:  # there is no public function for it
                portable_lib._unsafe_reset_threadpool(threads)
            self.content = path.read_bytes()  # the program does not keep its bytes alive
            self.program = Loader.get().load_program(self.content)
            self.method = self.program.load_method('forward')
        count = self.method.metadata.num_outputs()
        self.input_names = ['image']
        self.output_names = [f'output_{index}' for index in range(count)]

    def __call__(self, *arrays: np.ndarray) -> List[np.ndarray]:
        """See :class:`Runtime`."""
        outputs = self.method.execute(
            [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        return [output.numpy().copy() for output in outputs]  # ExecuTorch reuses its memory


RUNTIMES: Dict[str, Callable[..., Runtime]] = dict(
    onnxruntime=OnnxRuntime, openvino=OpenVINO, ncnn=Ncnn, mil=MilProgram,
    litert=LiteRT, executorch=ExecuTorch)


def load_runtime(backend: str,
                 path: Union[str, Path],
                 threads: Optional[int] = None) -> Runtime:
    """Load an exported file.

    Args:
        backend: A key of ``RUNTIMES``.
        path: The exported file: .onnx for ONNX Runtime and OpenVINO, .xml for OpenVINO.
        threads: Threads of one inference; by default the runtime's own choice.

    Raises:
        ExportError: There is no such runtime, no such file, or the runtime cannot read it.
        MissingPackageError: The runtime is not installed; the message names the extra.
    """
    if backend not in RUNTIMES:
        raise ExportError(f'there is no runtime {backend!r}: choose one of {", ".join(RUNTIMES)}')
    if not Path(path).exists():
        raise ExportError(f'there is no exported model at {path}')
    try:
        return RUNTIMES[backend](Path(path), threads)
    except ImportError as error:
        extra = dict(onnxruntime='onnx', mil='coreml').get(backend, backend)
        raise MissingPackageError(
            f"{backend} is not installed: pip install 'mobileone_mm[{extra}]'") from error
    except Exception as error:  # each runtime has exceptions of its own
        raise ExportError(f'{backend} cannot load {path}: {error}') from error
