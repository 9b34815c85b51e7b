"""Interleaved timing: every candidate gets a short turn in each round."""

import statistics
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

__all__ = ['Summary', 'summarize', 'take_turns']


@dataclass(frozen=True)
class Summary:
    """Of the samples of one candidate, in milliseconds.

    Attributes:
        median: The usual run.
        min: The paper's protocol takes the minimum of 1000 runs.
        p10: One run in ten is faster.
        p90: One run in ten is slower; the spread of this table is p10 to p90.
        samples: How many runs.
    """

    median: float
    min: float
    p10: float
    p90: float
    samples: int


def summarize(samples: Sequence[float]) -> Summary:
    """Sum up samples in milliseconds; at least one."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return Summary(statistics.median(ordered), ordered[0], ordered[round(.1 * last)],
                   ordered[round(.9 * last)], len(ordered))


def take_turns(calls: Dict[str, Callable[[], object]], rounds: Sequence[int],
               turn_ms: float = 50.) -> Iterator[Tuple[int, str, List[float]]]:
    """Time candidates in turns, so that what else the machine does hits all of them alike.

    Args:
        calls: What to time, by name; each was called before, to warm up.
        rounds: Numbers of the rounds to do.
        turn_ms: A turn calls again until so much time has passed, and at least once.

    Yields:
        Round, name and the samples of a turn in milliseconds, as soon as they are there.
    """
    for number in rounds:
        for name, call in calls.items():
            yield number, name, _turn(call, turn_ms)


def _turn(call: Callable[[], object], turn_ms: float) -> List[float]:
    samples: List[float] = []
    while not samples or sum(samples) < turn_ms:
        start = time.perf_counter()
        call()
        samples.append(1e3 * (time.perf_counter() - start))
    return samples
