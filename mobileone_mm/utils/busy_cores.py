"""Leave cores to the programs that already use them."""

import os
import time
from typing import Tuple

import torch

__all__ = ['busy_cores', 'leave_busy_cores']


def _ticks() -> Tuple[int, int]:
    """Time that all cores spent on programs of normal priority, and all their time."""
    with open('/proc/stat') as file:
        user, nice, system, *others = map(int, file.readline().split()[1:9])
    return user + system, user + nice + system + sum(others)


def busy_cores(seconds: float = 1.) -> float:
    """How many cores other programs use while this one waits; 0 where /proc/stat is missing."""
    try:
        busy, every = _ticks()
        time.sleep(seconds)
        more_busy, more = _ticks()
    except (OSError, ValueError):
        return 0.
    return (os.cpu_count() or 1) * (more_busy - busy) / max(1, more - every)


def leave_busy_cores() -> int:
    """Let torch use the other cores only, unless ``OMP_NUM_THREADS`` is set.

    Threads that share the work equally wait for the slowest one: with a thread on a busy core,
    training takes longer than without it.

    Returns:
        The number of torch's threads.
    """
    threads = torch.get_num_threads()
    if threads > 1 and 'OMP_NUM_THREADS' not in os.environ:
        threads = max(1, threads - round(busy_cores()))
        torch.set_num_threads(threads)
    return threads
