"""Describe the machine, and measure the best it can do."""

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch

from ...version import __version__
from .timing import take_turn, torch_threads

__all__ = ['Peak', 'describe', 'measure_peak']

PACKAGES = ('torch', 'onnx', 'onnxruntime', 'openvino', 'ncnn', 'ai-edge-litert', 'litert-torch',
            'executorch', 'mmengine', 'mmcv', 'mmcv-lite',
            'mmdet', 'mmsegmentation', 'timm', 'numpy')


def describe() -> dict:
    """Processor, memory, system and versions; unknown ones are left out."""
    facts = dict(
        cpu=_cpu_model(), cores=os.cpu_count(), vector=torch.backends.cpu.get_cpu_capability(),
        memory_gib=_memory_gib(), cache=_caches(), system=platform.platform(terse=True),
        machine=platform.machine(), python=platform.python_version(), versions=_versions())
    return {key: value for key, value in facts.items() if value}


def _cpu_model() -> str:
    if Path('/proc/cpuinfo').exists():
        info = dict(re.findall(r'^(model name|cpu family|model|stepping)\s*: (.*)$',
                               Path('/proc/cpuinfo').read_text(), re.M))
        if 'model name' in info:
            return (f'{info["model name"].strip()} (family {info.get("cpu family", "?")}, '
                    f'model {info.get("model", "?")})')
    return platform.processor()


def _memory_gib() -> Optional[float]:
    try:
        return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _caches() -> Dict[str, str]:
    """Sizes of the first core's data caches, as Linux reports them."""
    caches = {}
    for folder in sorted(Path('/sys/devices/system/cpu/cpu0/cache').glob('index*')):
        kind, level, size = ((folder / name).read_text().strip()
                             for name in ('type', 'level', 'size'))
        if kind != 'Instruction':
            caches[f'L{level}'] = size
    return caches


def _versions() -> Dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, 'mobileone_mm': __version__}  # not that of an installed copy


@dataclass(frozen=True)
class Peak:
    """The best results on a number of threads.

    Attributes:
        gflops: 1e9 multiplications and additions per second in a float32 matrix product.
        gemm: The size and the library that reached it.
        dram_gbs: 1e9 bytes read and written per second by a copy far larger than the caches.
        cache_gbs: The same for a copy that stays in the caches.
        threads: Number of threads.
    """

    gflops: float
    gemm: str
    dram_gbs: float
    cache_gbs: float
    threads: int


# Bytes of each of the two arrays of the copies.
CACHE_BYTES, MEMORY_BYTES = 192 << 10, 256 << 20


def measure_peak(threads: int) -> Peak:
    """Measure the two roofs of the roofline model (Williams et al., 2009), the best of many tries.

    Args:
        threads: Threads of torch and of ONNX Runtime.
    """
    with torch_threads(threads):
        gemms = [gemm for size in (256, 512, 1024) for gemm in _gemms(size, threads)]
        best = {name: flops / _best(call, 3.6 / len(gemms)) / 1e9
                for name, flops, call in gemms}
        name = max(best, key=best.__getitem__)
        cache, memory = (_copy_rate(nbytes) / 1e9 for nbytes in (CACHE_BYTES, MEMORY_BYTES))
        return Peak(best[name], name, memory, cache, threads)


def _best(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the runs that fit into ``seconds``, after one to warm up."""
    call()
    return min(take_turn(call, 1e3 * seconds)) / 1e3


def _copy_rate(nbytes: int) -> float:
    """Bytes read and written per second by copying an array of ``nbytes``."""
    source = torch.ones(nbytes // 4)
    target = torch.empty_like(source)
    repeats = max(1, (16 << 20) // nbytes)  # so that the call itself costs nothing

    def copies() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return 2 * nbytes * repeats / _best(copies, seconds=1.2)


def _gemms(size: int, threads: int) -> List[tuple]:
    """Name, operations per call, and call, for each installed library."""
    a, b = (torch.randn(size, size) for _ in range(2))
    out = torch.empty(size, size)
    found = [(f'torch, {size}', 2 * size ** 3, lambda: torch.mm(a, b, out=out))]
    session = _onnx_gemm(b.numpy(), threads)
    if session is not None:
        feed = dict(a=a.numpy())
        found.append((f'onnxruntime, {size}', 2 * size ** 3, lambda: session.run(None, feed)))
    return found


def _onnx_gemm(b: np.ndarray, threads: int) -> Optional[Any]:
    try:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['a', 'b'], ['c'])], 'gemm',
        [helper.make_tensor_value_info('a', TensorProto.FLOAT, b.shape)],
        [helper.make_tensor_value_info('c', TensorProto.FLOAT, b.shape)],
        [numpy_helper.from_array(b, 'b')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=['CPUExecutionProvider'])
