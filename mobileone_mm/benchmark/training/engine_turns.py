"""Time training iterations of a complete detector or segmentor with several branch engines."""

import statistics
import time
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...backbones import MobileOneBlock
from .data_time import Finished, train_until_finished

__all__ = ['compare_engines', 'median_ratio']


class _EngineTurns(Hook):
    """Time each iteration, data and all hooks included, then switch to the next engine."""

    def __init__(self, engines: Sequence[str], rounds: int) -> None:
        self.engines, self.rounds = list(engines), rounds
        self.seconds: Dict[str, List[float]] = {engine: [] for engine in engines}
        self.done, self.start = 0, 0.

    def before_train(self, runner: Runner) -> None:
        """Set the first engine."""
        self._next(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Runs after every other hook of the iteration."""
        seconds = time.process_time() - self.start
        turn, index = divmod(self.done, len(self.engines))
        if turn > 0:  # the first turn warms up
            self.seconds[self.engines[index]].append(seconds)
        self.done += 1
        if turn == self.rounds and index == len(self.engines) - 1:
            raise Finished
        self._next(runner)

    def _next(self, runner: Runner) -> None:
        engine = self.engines[self.done % len(self.engines)]
        for module in runner.model.modules():
            if isinstance(module, MobileOneBlock):
                module.branch_engine = engine
        self.start = time.process_time()


def compare_engines(cfg: Config, engines: Sequence[str] = ('textbook', 'auto'), rounds: int = 10,
                    batch_size: Optional[int] = None) -> Dict[str, List[float]]:
    """Train as tools/train.py does, with the next engine in every iteration.

    Data are loaded in the main process, so that loading counts.

    Args:
        cfg: A training config, which is changed. Weights are random: nothing is downloaded.
        engines: Names of branch engines.
        rounds: Iterations with each engine, after one that is not measured.
        batch_size: Batch size per process. Defaults to the config's.

    Returns:
        CPU seconds of this process, all threads together, for each iteration of each engine.
    """
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.pop('prefetch_factor', None)
    hook = _EngineTurns(engines, rounds)
    train_until_finished(cfg, hook, batch_size)
    return hook.seconds


def median_ratio(seconds: Sequence[float], first: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(seconds, first))
