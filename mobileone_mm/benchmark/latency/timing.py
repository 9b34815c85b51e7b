"""Interleaved timing: each candidate gets a short turn in every round."""

import contextlib
import statistics
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple, TypeVar

import torch

__all__ = ['Summary', 'summarize', 'take_turn', 'take_turns', 'torch_threads']

Key = TypeVar('Key')


class Summary(NamedTuple):
    """Statistics of one candidate's samples, in milliseconds.

    Attributes:
        median: The usual run.
        min: The paper's protocol takes the minimum of 1000 runs.
        p10: One run in ten is faster.
        p90: One run in ten is slower; tables give the spread as p10 to p90.
        samples: Number of runs.
    """

    median: float
    min: float
    p10: float
    p90: float
    samples: int


def summarize(samples: Sequence[float]) -> Summary:
    """Sum up at least one sample, in milliseconds."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return Summary(statistics.median(ordered), ordered[0], ordered[round(.1 * last)],
                   ordered[round(.9 * last)], len(ordered))


def take_turns(calls: Dict[Key, Callable[[], object]], rounds: int, turn_ms: float
               ) -> Iterator[Tuple[Key, List[float]]]:
    """Time candidates alternately, so that other load on the machine affects them alike.

    Args:
        calls: The calls to time, by any key; each has been called before, to warm up.
        rounds: Number of rounds.
        turn_ms: A turn repeats the call until this much time has passed, at least once.

    Yields:
        Key and samples in milliseconds of each turn, as soon as it ends.
    """
    for _ in range(rounds):
        for key, call in calls.items():
            yield key, take_turn(call, turn_ms)


def take_turn(call: Callable[[], object], turn_ms: float) -> List[float]:
    """Milliseconds of each of the runs that fit into ``turn_ms``, at least of one."""
    samples: List[float] = []
    while not samples or sum(samples) < turn_ms:
        start = time.perf_counter()
        call()
        samples.append(1e3 * (time.perf_counter() - start))
    return samples


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use this many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
