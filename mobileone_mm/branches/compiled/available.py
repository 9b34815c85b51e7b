"""Check whether compiled kernels can be used, and share the cores among them."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any, Callable, Optional, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor

__all__ = ['compiled_masked_grad', 'has_cores_to_itself', 'run', 'usable']

# Below this many elements per map, passing work to other threads costs more than it saves.
MIN_ELEMENTS_PER_THREAD = 1 << 16


def usable(x: Tensor) -> bool:
    """Whether the kernels accept maps like ``x``: float32 or float64, contiguous, on a CPU."""
    return (x.device.type == 'cpu' and x.dtype in (torch.float32, torch.float64)
            and x.is_contiguous() and _has_numba())


def has_cores_to_itself() -> bool:
    """Whether torch's threads leave the cores to the kernels.

    With several threads, all but one spin for a while after each operator, waiting for the next,
    unless the environment has ``OMP_WAIT_POLICY=passive``.
    """
    return (torch.get_num_threads() == 1
            or os.environ.get('OMP_WAIT_POLICY', '').lower() == 'passive')


@cache
def _has_numba() -> bool:
    if find_spec('numba') is None:
        return False
    try:
        import numba
    except ImportError as error:  # for example with a NumPy that it does not support
        warnings.warn(f'numba is installed but does not import, so training on a CPU is '
                      f'slower than it could be: {error}')
        return False
    return not getattr(numba.config, 'DISABLE_JIT', False)


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix='mobileone_mm')


def _prepare(kernel: Callable, *arrays: Any) -> None:
    """Compile or load the kernel for these types, on no channels; log it if it takes long."""
    start = time.monotonic()
    kernel(*arrays, 0, 0)
    seconds = time.monotonic() - start
    if seconds > 3:
        print_log(f'Compiled a kernel for training on CPUs in {seconds:.0f} s; a few more follow. '
                  'They are cached, so this happens once per machine.', logger='current')


def run(kernel: Callable, x: Tensor, *args: Any) -> None:
    """Call ``kernel(*args, lo, hi)`` for all channels of ``x``, shared among torch's threads.

    Tensors among ``args`` are passed as NumPy arrays on the same memory.
    """
    arrays = [arg.detach().numpy() if isinstance(arg, Tensor) else arg for arg in args]
    channels = x.shape[1]
    if not getattr(kernel, 'overloads', True):
        _prepare(kernel, *arrays)
    threads = min(torch.get_num_threads(), channels, x.numel() // MIN_ELEMENTS_PER_THREAD)
    if threads <= 1:
        kernel(*arrays, 0, channels)
        return
    edges = [channels * i // threads for i in range(threads + 1)]
    parts = [_pool(os.getpid(), threads - 1).submit(kernel, *arrays, lo, hi)
             for lo, hi in zip(edges[1:], edges[2:])]
    kernel(*arrays, 0, edges[1])
    for part in parts:
        part.result()


def compiled_masked_grad(grad: Tensor, out: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
    """The gradient before ReLU and its sums in float64, in one pass over contiguous maps."""
    from .kernels import taps
    grad = grad.contiguous()
    g, sums = torch.empty_like(grad), grad.new_zeros(grad.shape[1], dtype=torch.float64)
    run(taps.masked_grad, g, grad.flatten(2), (grad if out is None else out).flatten(2),
        out is not None, g.flatten(2), sums)
    return g, sums
