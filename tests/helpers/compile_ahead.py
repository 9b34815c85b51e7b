"""Compile the kernels that a call launches for a GPU that is not there.

A process of its own is needed: Triton decides at import whether it interprets kernels.

    python compile_ahead.py COMPUTE_CAPABILITY...  ->  one JSON object a kernel and line
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Callable, Iterator, List
from unittest import mock

import torch
from paths import ROOT
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(ROOT))

from mobileone_mm.branches.triton import depthwise, pointwise  # noqa: E402
from mobileone_mm.branches.triton.block import Fold  # noqa: E402


class AbsentDriver:
    """What Triton asks of a driver before it launches."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget('cuda', capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled(capability: int, call: Callable[[], None]) -> Iterator:
    """The kernels launched by ``call``, compiled but not run."""
    kernels = []
    run = JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        kernels.append(kernel)

    driver.set_active(AbsentDriver(capability))
    with mock.patch.object(JITFunction, 'run', compile_only):
        call()
    yield from kernels


def resources(kernel, capability: int) -> dict:
    """Registers, spilled bytes and shared memory, by ptxas."""
    with tempfile.NamedTemporaryFile('w', suffix='.ptx') as file:
        file.write(kernel.asm['ptx'])
        file.flush()
        arch = f'sm_{capability}' + ('a' if capability >= 90 else '')
        log = subprocess.run([knobs.nvidia.ptxas.path, '-v', f'-arch={arch}', file.name, '-o',
                              '/dev/null'], capture_output=True, text=True, check=True).stderr
    return dict(kernel=kernel.metadata.name, shared=kernel.metadata.shared, capability=capability,
                registers=int(re.search(r'Used (\d+) registers', log)[1]),
                spills=sum(map(int, re.findall(r'(\d+) bytes spill', log))))


def block_calls(half: torch.dtype = torch.float16) -> Iterator[tuple]:
    """Of each kind of block, a name and a function that runs it forward and backward."""
    for dtype in (torch.float32, half):
        for layout in (torch.contiguous_format, torch.channels_last):
            for stride in (1, 2):
                fold = Fold(4, True, stride == 1, True, stride, 1, 1e-5, True)
                yield f'depthwise {dtype} {layout} {stride}', run_depthwise(fold, dtype, layout)
            fold = Fold(4, False, True, False, 1, 1, 1e-5, True)
            yield f'pointwise {dtype} {layout}', run_pointwise(fold, dtype, layout)


def maps(dtype, layout, size=28):
    return torch.zeros((2, 128, size, size), dtype=dtype).contiguous(memory_format=layout)


def run_depthwise(fold, dtype, layout) -> Callable[[], None]:
    def call():
        x = maps(dtype, layout)
        params = torch.zeros(128 * (9 * fold.convs + fold.scale + 2 * fold.norms))
        y, state, _ = depthwise.depthwise_forward(x, params, fold)
        depthwise.depthwise_backward(x, y, y, params, state, fold)
    return call


def run_pointwise(fold, dtype, layout) -> Callable[[], None]:
    def call():
        x = maps(dtype, layout)
        params = torch.zeros(128 * (128 * fold.convs + 2 * fold.norms))
        y, kernel, state, _ = pointwise.pointwise_forward(x, params, 128, fold)
        pointwise.pointwise_backward(x, y, y, params, kernel, state, fold)
    return call


def main(capabilities: List[int]) -> None:
    for capability in capabilities:
        with mock.patch.object(pointwise, 'has_tensor_cores', lambda x: capability >= 80):  # noqa: B023
            for name, call in block_calls():
                seen = set()
                for kernel in compiled(capability, call):
                    if kernel.hash not in seen:
                        seen.add(kernel.hash)
                        print(json.dumps(dict(block=name, **resources(kernel, capability))),
                              flush=True)


if __name__ == '__main__':
    main([int(a) for a in sys.argv[1:]])
