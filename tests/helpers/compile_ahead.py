"""Compile the kernels that a call launches, for a GPU that is not there.

This needs a separate process: Triton decides at import whether it interprets kernels.

    python compile_ahead.py COMPUTE_CAPABILITY nchw|nhwc...  ->  one line of JSON per kernel
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Callable, Iterator, Sequence
from unittest import mock

import torch
from paths import ROOT
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(ROOT))

from mobileone_mm import MobileOne  # noqa: E402
from mobileone_mm.branches import choose  # noqa: E402
from mobileone_mm.branches.triton import choose as blocks  # noqa: E402
from mobileone_mm.branches.triton import pointwise  # noqa: E402

LAYOUTS = dict(nchw=torch.contiguous_format, nhwc=torch.channels_last)


class AbsentDriver:
    """What Triton needs from a driver before a launch."""

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


def training_step(dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Run S0 forward and backward, with all sizes and channels that kernels differ by."""
    net = MobileOne('s0', branch_engine='analytic').train()
    x = torch.zeros(2, 3, 224, 224).contiguous(memory_format=layout)
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        y, = net(x)
    y.backward(torch.zeros_like(y))


def main(capability: int, layouts: Sequence[str]) -> None:
    """Print the resources of each distinct kernel."""
    generation = capability // 10 if capability >= 80 else 0
    dtypes = (torch.float32, torch.float16) if generation else (torch.float32, )
    with mock.patch.object(choose, '_uses_triton', lambda *_: True), mock.patch.object(
            pointwise, 'tensor_cores', lambda x: generation), mock.patch.object(
                blocks, 'tensor_cores', lambda x: generation):
        for layout in layouts:
            for dtype in dtypes:
                seen = set()
                for kernel in compiled(capability,
                                       lambda: training_step(dtype, LAYOUTS[layout])):  # noqa: B023
                    if kernel.hash not in seen:
                        seen.add(kernel.hash)
                        print(json.dumps(dict(step=f'{str(dtype)[6:]} {layout}',
                                              **resources(kernel, capability))), flush=True)


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2:])
