"""Measure what the training loop adds to a model's bare step: data, hooks, bookkeeping."""

import statistics
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...engine import make_resumable

__all__ = ['Finished', 'LoopTimes', 'measure_loop', 'train_until_finished']


@dataclass(frozen=True)
class LoopTimes:
    """Medians of a run, in seconds unless noted."""

    ratios: List[float]  # loop / bare step, per round
    loop: float  # an iteration of the loop, including everything
    bare: float
    data: float  # an iteration's wait for its batch, as mmengine's IterTimerHook measures it
    workers: int

    @property
    def ratio(self) -> float:
        """Median over the rounds of the ratio of an iteration to the bare step."""
        return statistics.median(self.ratios)


def measure_loop(cfg: Config, rounds: int = 12, iterations: int = 4,
                 batch_size: Optional[int] = None) -> LoopTimes:
    """Train like tools/train.py, alternating with bare steps of the same model.

    A bare step is forward, loss, backward and the optimizer's step on one preprocessed batch. The
    bare steps give the workers time to load batches in advance, so in each round as many iterations
    are not measured. Validation and checkpoints are off, and the ends of epochs vanish in the
    medians.

    Args:
        cfg: A training config, which is changed. Weights are random: nothing is downloaded.
        rounds: How often loop and bare steps take turns.
        iterations: How many of each are measured per round.
        batch_size: Batch size per process. Defaults to the config's.
    """
    loader = cfg.train_dataloader
    workers = loader.get('num_workers', 0)
    depth = workers * (loader.get('prefetch_factor') or 2)
    hook = _TurnsHook(rounds, iterations, skip=max(1, depth))
    train_until_finished(cfg, hook, batch_size)
    return hook.result(workers)


class Finished(Exception):
    """A hook raises it to end the loop; mmengine's loops cannot end within an epoch."""


def train_until_finished(cfg: Config, hook: Hook, batch_size: Optional[int] = None) -> None:
    """Train until a hook raises :class:`Finished`: no validation, no checkpoints, random weights.

    Args:
        cfg: A training config, which is changed.
        hook: It runs after all other hooks.
        batch_size: Batch size per process. Defaults to the config's.
    """
    if batch_size:
        cfg.train_dataloader.batch_size = batch_size
    cfg.model.backbone.init_cfg = None
    for part in ('val', 'test'):
        for name in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{part}_{name}'] = None
    make_resumable(cfg)
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg['max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'] = 10**6
    runner = Runner.from_cfg(cfg)
    runner.register_hook(hook, priority='LOWEST')
    try:
        runner.train()
    except Finished:
        pass


class _TurnsHook(Hook):
    """Time the iterations, and after some of them the bare steps."""

    def __init__(self, rounds: int, iterations: int, skip: int) -> None:
        self.rounds, self.iterations, self.skip = rounds, iterations, skip
        self.loop: List[List[float]] = []
        self.bare: List[List[float]] = []
        self.data: List[float] = []
        self.seen: List[float] = []
        self.start = 0.
        self.batch: Optional[Dict[str, Any]] = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Any = None) -> None:
        """Runs after every other hook of the iteration."""
        now = _now()
        if self.batch is None:
            self.batch = runner.model.data_preprocessor(data_batch, True)
            _bare_step(runner, self.batch)  # to warm up
        else:
            self.seen.append(now - self.start)
            if len(self.seen) > self.skip:
                self.data.append(runner.message_hub.get_scalar('train/data_time').current())
        if len(self.seen) == self.skip + self.iterations:
            self.loop.append(self.seen[self.skip:])
            self.bare.append([_bare_step(runner, self.batch) for _ in range(self.iterations)])
            self.seen = []
            if len(self.loop) == self.rounds:
                raise Finished
        self.start = _now()

    def result(self, workers: int) -> LoopTimes:
        """Sum up what was measured."""
        median = statistics.median
        return LoopTimes([median(a) / median(b) for a, b in zip(self.loop, self.bare)],
                         median(sum(self.loop, [])), median(sum(self.bare, [])),
                         median(self.data), workers)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _bare_step(runner: Runner, batch: Dict[str, Any]) -> float:
    """Seconds of a training step without mmengine's OptimWrapper."""
    optimizer = runner.optim_wrapper.optimizer
    start = _now()
    losses = runner.model(**batch, mode='loss')
    loss = sum(part for key, value in losses.items() if 'loss' in key
               for part in (value if isinstance(value, list) else [value]))
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()
    return _now() - start
