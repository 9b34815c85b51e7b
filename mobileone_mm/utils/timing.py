"""Measure the CPU time of calls, which other programs hardly affect."""

import time
from typing import Callable, Dict, List, Mapping, TypeVar

__all__ = ['processor_ms']

Key = TypeVar('Key')


def processor_ms(calls: Mapping[Key, Callable[[], object]],
                 rounds: int) -> Dict[Key, List[float]]:
    """CPU time of each run in milliseconds, with the calls taking turns.

    Args:
        calls: The calls to time, by any key.
        rounds: Number of runs of each.
    """
    samples: Dict[Key, List[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.process_time()
            call()
            samples[key].append(1e3 * (time.process_time() - start))
    return samples
