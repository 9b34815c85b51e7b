"""Measure time and peak memory of a backbone's training step, alternating between nets."""

import statistics
import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ..train_step import build, saved_bytes
from .report import DeviceLost, Report, Stopwatch, attempt

__all__ = ['Setting', 'measure_steps', 'prepare']

LEAST_ROUNDS, MOST_ROUNDS = 5, 25
STEPS_A_ROUND = 2


class Setting(NamedTuple):
    """What the compared nets have in common.

    Attributes:
        arch: ``'s0'`` ... ``'s4'``.
        batch: Images per step.
        precision: ``'float32'`` or ``'amp'`` (float16 on GPUs, bfloat16 on CPUs).
        mode: ``'eager'``, or ``'graph'`` to replay a CUDA graph.
        image_size: Height and width, in pixels.
    """

    arch: str
    batch: int
    precision: str
    mode: str
    image_size: int = 224


def measure_steps(report: Report, clock: Stopwatch, device: str, setting: Setting,
                  nets: Sequence[str], seconds: float) -> None:
    """Add a row per net to the section 'steps'; ratios are to the first net and to 'textbook'.

    Args:
        report: Where rows go.
        clock: Nothing starts after it has run out.
        device: Device of the nets.
        setting: See :class:`Setting`.
        nets: Names for :func:`build`.
        seconds: Approximate time to spend on timing, after the warm-up.
    """
    nets = [net for net in nets if not report.has('steps', **setting._asdict(), net=net)]
    if clock.left() < 0 and nets:
        report.add('steps', **setting._asdict(), net='all', note='skipped: out of time')
        return
    x = torch.randn(setting.batch, 3, setting.image_size, setting.image_size, device=device)
    steps, rows = {}, {}
    for name in nets:
        result = attempt(prepare, name, setting, x)
        if 'failed' in result:
            rows[name] = dict(note=result['failed'])
            _save_if_lost(report, setting, rows)
        else:
            steps[name], rows[name] = result['step'], result['row']
    times = _in_turns(steps, device, min(seconds, max(clock.left(), 1.)))
    for name in nets:
        row = dict(**setting._asdict(), net=name, **rows[name])
        if name in times:
            row['ms'] = statistics.median(times[name])
            for other in ('plain', 'textbook'):
                if other in times and other != name:
                    row[f'time/{other}'] = statistics.median(
                        a / b for a, b in zip(times[name], times[other]))
                peak = rows.get(other, {}).get('peak_mb')
                if peak and other != name:
                    row[f'peak/{other}'] = row['peak_mb'] / peak
            row['rounds'] = len(times[name])
        report.add('steps', **row)
    report.check_device()
    steps.clear()
    if device == 'cuda':
        torch.cuda.empty_cache()


def _save_if_lost(report: Report, setting: Setting, rows: Dict[str, dict]) -> None:
    """Skip the net that lost the device; the other nets of its setting are tried again."""
    try:
        report.check_device()
    except DeviceLost:
        name, row = list(rows.items())[-1]
        report.add('steps', **setting._asdict(), net=name, **row)
        raise


def prepare(name: str, setting: Setting, x: Tensor) -> dict:
    """Build a function that does one training step of a net, and warm it up.

    Args:
        name: See :func:`measure_steps`.
        setting: See :class:`Setting`.
        x: (B, 3, H, W).

    Returns:
        ``step``, to be called without arguments, and ``row``.
    """
    device = x.device.type
    net = build(setting.arch, name).to(device)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        with _autocast(setting, device):
            y = net(x)
        y.backward(torch.ones_like(y))

    start = time.monotonic()
    # A graph is captured on the stream that did everything before.
    stream = torch.cuda.Stream() if setting.mode == 'graph' else None
    _synchronize(device)
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
        row: Dict[str, Any] = dict(syncs=_count_syncs(step), peak_mb=_peak_mb(step, net, device))
        with _autocast(setting, device):
            row['saved_mb'] = saved_bytes(net, x) / 1e6
        if stream is not None:
            step = _captured(step, net, stream)
    _synchronize(device)
    row['warm_up_s'] = round(time.monotonic() - start, 1)
    return dict(step=step, row=row)


@contextmanager
def _autocast(setting: Setting, device: str) -> Iterator[None]:
    dtype = torch.float16 if device == 'cuda' else torch.bfloat16
    # A graph must not keep casts of weights from outside of it.
    with torch.autocast(device, dtype=dtype, enabled=setting.precision == 'amp',
                        cache_enabled=setting.mode != 'graph'):
        yield


def _captured(step: Callable[[], None], net: nn.Module, stream: torch.cuda.Stream
              ) -> Callable[[], None]:
    """The step as a CUDA graph."""
    step()
    net.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph.replay


def _count_syncs(step: Callable[[], None]) -> str:
    """Whether the host waits for the GPU within a step: 'no', or the operation that does."""
    if not torch.cuda.is_available():
        return 'not measured'
    torch.cuda.set_sync_debug_mode('error')
    try:
        step()
    except RuntimeError as error:
        return str(error).strip()[:200]
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return 'no'


def _peak_mb(step: Callable[[], None], net: nn.Module, device: str) -> float:
    """Peak memory beyond parameters and input; 0 if unknown."""
    if device != 'cuda':
        return 0.
    net.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    net.zero_grad(set_to_none=True)
    return peak / 1e6


def _in_turns(steps: Dict[str, Callable[[], None]], device: str, seconds: float
              ) -> Dict[str, List[float]]:
    """Milliseconds per step, by net: one value per round."""
    times: Dict[str, List[float]] = {name: [] for name in steps}
    clock = Stopwatch(seconds)
    for done in range(MOST_ROUNDS if steps else 0):
        if done >= LEAST_ROUNDS and clock.left() < 0:
            break
        for name, step in steps.items():
            times[name].append(_time(step, device))
    return times


def _time(step: Callable[[], None], device: str) -> float:
    if device != 'cuda':
        since = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - since)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(STEPS_A_ROUND):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / STEPS_A_ROUND


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()
