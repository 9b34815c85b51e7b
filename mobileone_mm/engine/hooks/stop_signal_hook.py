"""Stop cleanly on Ctrl-C and SIGTERM."""

import signal
import time
from typing import Any, Optional

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.workers import shield_workers
from .atomic_checkpoint_hook import BACKEND

FILENAME = 'interrupted.pth'
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGINT or SIGTERM finish the iteration, save ``interrupted.pth`` and exit.

    ``--resume`` goes on with the next iteration. A signal more than a second later ends the process
    at once. In a validation nothing is saved, since the checkpoint of the epoch's end is there
    already. Data loaders' workers ignore both signals.

    Args:
        sync_interval: With several processes, how often, in iterations, they agree on stopping.
    """

    priority = 'LOWEST'  # behind the hooks whose state is saved

    def __init__(self, sync_interval: int = 10) -> None:
        self.sync_interval = sync_interval
        self._signal: Optional[int] = None
        self._since = 0.0
        self._previous: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Listen, in the main process alone."""
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                shield_workers(loop.dataloader)
        try:
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._remember)
        except ValueError:  # not the main thread: somebody else must listen
            runner.logger.debug('StopSignalHook is idle: training is not in the main thread')

    def after_train(self, runner: Runner) -> None:
        """Stop listening."""
        self._restore()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Save and leave, unless gradients are still being accumulated."""
        if not self._all_stop(runner.iter) or not runner.optim_wrapper.should_update():
            return
        runner.save_checkpoint(
            runner.work_dir, FILENAME, by_epoch=False,
            meta=dict(epoch=runner.epoch, iter=runner.iter + 1),
            backend_args=dict(backend=BACKEND))
        self._leave(runner, f'iteration {runner.iter + 1} is done and saved')

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        """Leave."""
        if self._signal is not None:
            self._leave(runner, 'the validation was not finished and will be repeated')

    def _remember(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
        elif now - self._since > 1:  # not one stop sent twice, to the process and to its group
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _all_stop(self, iteration: int) -> bool:
        if get_world_size() == 1:
            return self._signal is not None
        if iteration % self.sync_interval:
            return False
        stop = torch.tensor(self._signal or 0, device=get_device())
        all_reduce(stop, 'max')
        self._signal = int(stop) or None
        return self._signal is not None

    def _leave(self, runner: Runner, what: str) -> None:
        self._restore()
        number = signal.Signals(self._signal or signal.SIGTERM)
        runner.logger.warning(
            f'Stopped by {number.name}: {what}. The same command with --resume goes on.')
        raise SystemExit(128 + number)
