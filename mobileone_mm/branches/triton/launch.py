"""Launch kernels with little overhead, and divide launches into programs."""

from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor

__all__ = ['ceil_div', 'float32', 'launch', 'split']

# Enough programs to keep every multiprocessor of a large GPU busy (132 on an H100).
PROGRAMS = 132 * 8

_compiled: Dict[tuple, Tuple[Any, List[Any]]] = {}


def launch(kernel: Any, grid: Tuple[int, ...], *args: Any, **constants: Any) -> None:
    """``kernel[grid](*args, **constants)``, on the current device.

    Triton inspects each argument to find the compiled kernel, which takes longer than many kernels.
    Here the first call caches the result for all later calls with the same numbers, dtypes and
    alignments.
    """
    key: List[Any] = [id(kernel), *constants.values()]  # hashing the kernel itself takes longer
    values: List[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            pointer = arg.data_ptr()
            key += (arg.dtype, arg.device.index, pointer % 16)
            values.append(pointer)
        else:
            key.append(arg)
            values.append(arg)
    found = _compiled.get(tuple(key))
    if found is not None:
        compiled, rest = found
        compiled[(*grid, 1, 1)[:3]](*values, *rest)
        return
    compiled = kernel[grid](*args, **constants)
    if hasattr(compiled, 'asm'):  # an interpreted kernel returns nothing
        rest = [constants[name] for name in kernel.arg_names[len(args):]]
        _compiled[tuple(key)] = compiled, rest


def float32(x: Tensor, *shape: int) -> Tensor:
    """A tensor on the device of x for a kernel to fill."""
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def ceil_div(size: int, by: int) -> int:
    """``size / by``, rounded up."""
    return -(-size // by)


def split(tiles: int, groups: int) -> Tuple[int, int]:
    """Split a sum over ``tiles`` for each of ``groups``: number of programs, and tiles of each."""
    per = ceil_div(tiles, max(1, PROGRAMS // groups))
    return ceil_div(tiles, per), per
