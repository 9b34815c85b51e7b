"""What each layer of a network achieves, by ONNX Runtime's own profiler.

Shapes in the profile are those of the graph after ONNX Runtime's optimizations: a convolution has
includes its activation, and often a sum.
"""

import json
import math
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

__all__ = ['Layer', 'kind_of', 'profile']

KERNEL = '_kernel_time'


@dataclass(frozen=True)
class Layer:
    """A node of the optimized graph.

    Attributes:
        name: Name of the node.
        kind: See :func:`kind_of`.
        ms: Median of the runs, in milliseconds.
        macs: Multiply-adds of convolutions and matrix products; 0 for the rest.
        bytes: Bytes of inputs, weights and outputs: what is read and written without a cache.
    """

    name: str
    kind: str
    ms: float
    macs: int
    bytes: int

    @property
    def gflops(self) -> float:
        """1e9 multiplications and additions per second."""
        return 2e-6 * self.macs / self.ms

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return 2 * self.macs / self.bytes

    def asdict(self) -> dict:
        """As JSON."""
        return dict(asdict(self), ms=round(self.ms, 5))


def profile(path: Path, image: np.ndarray, threads: int = 1, runs: int = 30) -> List[Layer]:
    """Run an ONNX file under the profiler.

    Args:
        path: A graph with one input.
        image: That input.
        threads: Number of threads.
        runs: Number of runs, after two to warm up.

    Returns:
        The layers, in the order in which they run.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix('.profile'))
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    feed = {session.get_inputs()[0].name: image}
    for _ in range(runs + 2):
        session.run(None, feed)
    file = Path(session.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    return layers_of(events, skip=2)


def layers_of(events: Sequence[dict], skip: int = 0) -> List[Layer]:
    """Collect the layers from a profile's events; the first ``skip`` runs of each are left out."""
    times: Dict[str, List[float]] = defaultdict(list)
    facts: Dict[str, dict] = {}
    for event in events:
        if event.get('cat') == 'Node' and event['name'].endswith(KERNEL):
            name = event['name'][:-len(KERNEL)]
            times[name].append(event['dur'] / 1e3)
            facts[name] = event['args']
    layers = []
    for name, args in facts.items():
        inputs, outputs = _tensors(args['input_type_shape']), _tensors(args['output_type_shape'])
        ms = statistics.median(times[name][skip:] or times[name])
        kind = kind_of(args['op_name'], inputs)
        if kind == 'linear' and all(len(shape) < 2 for _, shape in inputs[1:]):
            # ONNX Runtime packed the weights and does not report their shape.
            inputs.append((4, (inputs[0][1][-1], outputs[0][1][-1])))
        moved = sum(size * math.prod(shape) for size, shape in inputs + outputs)
        layers.append(Layer(name, kind, max(ms, 1e-4), _macs(kind, inputs, outputs),
                            max(moved, 1)))
    return layers


Tensors = List[Tuple[int, Tuple[int, ...]]]
SIZES = dict(float=4, int64=8, int32=4, double=8, bool=1, uint8=1, float16=2)


def _tensors(entries: Sequence[Dict[str, Sequence[int]]]) -> Tensors:
    """Bytes per element, and shape, of each tensor."""
    return [(SIZES.get(dtype, 4), tuple(shape)) for entry in entries
            for dtype, shape in entry.items()]


def kind_of(op_name: str, inputs: Tensors) -> str:
    """'depthwise', 'pointwise', 'dense' (other convolutions), 'linear' or 'other'."""
    if op_name in ('Gemm', 'MatMul', 'FusedMatMul', 'FusedGemm'):
        return 'linear'
    if 'Conv' not in op_name or len(inputs) < 2:
        return 'other'
    _, weight = inputs[1]
    if weight[1] == 1 and weight[0] > 1 and inputs[0][1][1] != 1:
        return 'depthwise'
    return 'pointwise' if tuple(weight[2:]) == (1, 1) else 'dense'


def _macs(kind: str, inputs: Tensors, outputs: Tensors) -> int:
    if kind == 'other':
        return 0
    if kind == 'linear':
        return math.prod(outputs[0][1]) * inputs[0][1][-1]
    return math.prod(outputs[0][1]) * math.prod(inputs[1][1][1:])
