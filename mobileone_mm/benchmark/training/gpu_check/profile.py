"""Count the kernels that a training step launches, and time them."""

from typing import Any, Dict, List, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from .report import Report, Stopwatch, attempt
from .step_times import Setting, prepare

__all__ = ['profile_steps']

LISTED = 25


def profile_steps(report: Report, clock: Stopwatch, device: str, setting: Setting,
                  nets: Sequence[str]) -> None:
    """Add a row per net to the section 'profile': kernels and their total time in an eager step.

    Args:
        report: Where rows go; the JSON has the kernels by name.
        clock: Nothing starts after it has run out.
        device: Device of the nets.
        setting: See :class:`.step_times.Setting`; its mode is ignored.
        nets: As in :func:`.step_times.measure_steps`.
    """
    setting = setting._replace(mode='eager')
    x = torch.randn(setting.batch, 3, setting.image_size, setting.image_size, device=device)
    for name in nets:
        if clock.left() < 0 or report.has('profile', **setting._asdict(), net=name):
            continue
        row = attempt(_profile, name, setting, x)
        report.add('profile', **setting._asdict(), net=name, **row)
        report.check_device()


def _profile(name: str, setting: Setting, x: torch.Tensor) -> Dict[str, Any]:
    step = prepare(name, setting, x)['step']
    on_gpu = x.device.type == 'cuda'
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    rows: List[dict] = []
    for event in recorded.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if own > 0 and (not on_gpu or event.device_type != torch.autograd.DeviceType.CPU):
            rows.append(dict(kernel=event.key[:120], calls=event.count, us=round(own, 1)))
    rows.sort(key=lambda row: -row['us'])
    return dict(kernels=sum(row['calls'] for row in rows),
                kernel_ms=sum(row['us'] for row in rows) / 1e3, by_kernel=rows[:LISTED])
