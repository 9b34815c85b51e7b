"""Profile a training step: CPU time by operator and size of the feature map."""

import statistics
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ['OpTime', 'format_profile', 'profile_step', 'summarize']

SMALL = 1 << 15
"""Operators on fewer elements count as small: their cost is the call."""


PRODUCTS = ('convolution', 'convolution_backward', 'addmm', 'addmm_', 'baddbmm', 'baddbmm_', 'bmm',
            'mm')


class OpTime(NamedTuple):
    """CPU time of ``calls`` calls per step, forward and backward."""

    operator: str
    size: str
    calls: int
    milliseconds: float


class _Timer(TorchDispatchMode):
    """Measure the CPU time of each operator below autograd, on this thread.

    torch's own profiler measures wall time, which on a busy machine includes other programs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: Dict[Tuple[str, str], List[float]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Optional[dict] = None) -> Any:
        start = time.thread_time()
        result = func(*args, **(kwargs or {}))
        seconds = time.thread_time() - start
        self.times[func.overloadpacket.__name__, _size(args, result)].append(seconds)
        return result


@contextmanager
def _timed_kernels(times: Dict[Tuple[str, str], List[float]]) -> Iterator[None]:
    """Time the kernels compiled by numba too: they are not operators of torch."""
    from ...branches.compiled import available

    def timed(kernel: Callable, like: Tensor, *args: Any) -> None:
        start = time.thread_time()
        available.run(kernel, like, *args)
        name = f'{kernel.__module__.rsplit(".", 1)[-1]}.{kernel.__name__}'
        times[name, _size(like)].append(time.thread_time() - start)

    users = [module for name, module in sys.modules.items()
             if name.startswith('mobileone_mm.') and vars(module).get('run') is available.run
             and module is not available]
    for module in users:
        module.run = timed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in users:
            module.run = available.run  # type: ignore[attr-defined]


def _size(*values: Any) -> str:
    """Height x width of the largest map, 'matrix' without one, 'small' below :data:`SMALL`."""
    largest: Optional[Tensor] = max((v for v in tree_leaves(values) if isinstance(v, Tensor)),
                                    key=Tensor.numel, default=None)
    if largest is None or largest.numel() < SMALL:
        return 'small'
    return f'{largest.shape[2]}x{largest.shape[3]}' if largest.dim() == 4 else 'matrix'


def profile_step(net: nn.Module, x: Tensor, rounds: int = 3) -> List[OpTime]:
    """Measure the CPU time of operators in a forward and backward pass on one thread.

    Args:
        net: The net, in train mode.
        x: Its input.
        rounds: Number of steps to take medians over, after one that is not measured.

    Returns:
        The slowest first. The last one, ``'(calls)'``, is the rest of the step: Python, autograd
        and the dispatcher.
    """
    runs, steps = [], []
    for _ in range(rounds + 1):
        start = time.thread_time()
        _forward_backward(net, x)
        steps.append(time.thread_time() - start)
        timer = _Timer()
        with timer, _timed_kernels(timer.times):
            _forward_backward(net, x)
        runs.append(timer.times)
    keys = runs[-1].keys()
    total = {key: statistics.median(sum(run[key]) for run in runs[1:]) for key in keys}
    result = sorted((OpTime(op, size, len(runs[-1][op, size]), 1e3 * seconds)
                     for (op, size), seconds in total.items()), key=lambda row: -row.milliseconds)
    rest = statistics.median(steps[1:]) - sum(total.values())
    return [*result, OpTime('(calls)', '', 0, 1e3 * rest)]


def _forward_backward(net: nn.Module, x: Tensor) -> None:
    net.zero_grad(set_to_none=True)
    y = net(x)
    y.backward(torch.ones_like(y))


def summarize(rows: List[OpTime]) -> Dict[str, float]:
    """Milliseconds by kind.

    The kinds are convolutions and matrix products, other passes over maps, kernels compiled by
    numba, operators on small tensors, and calls.
    """
    kinds = dict.fromkeys(('products', 'passes', 'compiled', 'small', 'calls'), 0.)
    for row in rows:
        if row.operator == '(calls)':
            kind = 'calls'
        elif '.' in row.operator:
            kind = 'compiled'
        elif row.size == 'small':
            kind = 'small'
        else:
            kind = 'products' if row.operator in PRODUCTS else 'passes'
        kinds[kind] += row.milliseconds
    return kinds


def format_profile(rows: List[OpTime], top: int = 25) -> str:
    """A line by kind, then a Markdown table of the ``top`` slowest and the sum of the others."""
    kinds = ', '.join(f'{kind} {ms:.0f}' for kind, ms in summarize(rows).items())
    lines = [f'CPU ms by kind: {kinds}', '',
             '| operator | map | calls | CPU ms |', '|--|--|--:|--:|']
    *rows, calls = rows
    rest = OpTime('others', '', sum(row.calls for row in rows[top:]),
                  sum(row.milliseconds for row in rows[top:]))
    whole = sum(row.milliseconds for row in rows) + calls.milliseconds
    for row in [*rows[:top], rest, calls, OpTime('step', '', 0, whole)]:
        lines.append(f'| {row.operator} | {row.size} | {row.calls or ""} | '
                     f'{row.milliseconds:.1f} |')
    return '\n'.join(lines)
