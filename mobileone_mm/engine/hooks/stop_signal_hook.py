"""Stop cleanly on Ctrl-C, SIGTERM and SIGHUP."""

import signal
import time
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.interrupted import largest, save_interrupted
from ..resuming.workers import shield_workers

SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP')
           if hasattr(signal, name)]  # Windows has no SIGHUP


@HOOKS.register_module()
class StopSignalHook(Hook):
    """On SIGINT, SIGTERM or SIGHUP, finish the iteration, save ``interrupted.pth`` and exit.

    ``--resume`` continues with the next iteration. A second signal, more than a second later, ends
    the process at once. A validation stops at once and is repeated on ``--resume``: the training
    before it is already saved, in ``interrupted.pth`` if the epoch has no checkpoint. Several
    processes agree after each iteration. SIGHUP stays ignored under ``nohup``. Workers of data
    loaders ignore all three signals.
    """

    priority = 'LOWEST'  # after the hooks whose state is saved

    def __init__(self) -> None:
        self._signal: Optional[int] = None
        self._since = 0.0
        self._previous: dict = {}
        self._training = False
        self._saved = 0  # the iteration of the last checkpoint

    def before_train(self, runner: Runner) -> None:
        """Listen for signals, only in the main process."""
        self._training, self._saved = True, runner.iter
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                shield_workers(loop.dataloader)
        try:
            for number in SIGNALS:
                ignored = signal.getsignal(number) == signal.SIG_IGN
                if number in (signal.SIGINT, signal.SIGTERM) or not ignored:  # under nohup
                    self._previous[number] = signal.signal(number, self._remember)
        except ValueError:  # not in the main thread
            runner.logger.debug('StopSignalHook is idle: training is not in the main thread')

    def after_train(self, runner: Runner) -> None:
        """Stop listening for signals."""
        self._restore()
        self._training = False

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Save and leave, unless gradients are still being accumulated."""
        self._signal = largest(self._signal or 0) or None
        if self._signal is not None and runner.optim_wrapper.should_update():
            save_interrupted(runner, runner.iter + 1)
            self._leave(runner, f'iteration {runner.iter + 1} is done and saved')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember which iteration is saved in a checkpoint that can be resumed."""
        if 'optimizer' in checkpoint:
            self._saved = checkpoint['meta']['iter']

    def before_val(self, runner: Runner) -> None:
        """Save iterations that no checkpoint holds, before other hooks replace the model."""
        # mmengine saves, and calls before_save_checkpoint, in the first process only
        if self._training and largest(self._saved) != runner.iter:
            save_interrupted(runner, runner.iter)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        """Leave."""
        if self._training and self._signal is not None:
            self._leave(runner, 'the validation was not finished and will be repeated')

    def _remember(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
        elif now - self._since > 1:  # not the same stop sent to both the process and its group
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _leave(self, runner: Runner, what: str) -> None:
        self._restore()
        number = signal.Signals(self._signal or signal.SIGTERM)
        runner.logger.warning(
            f'Stopped by {number.name}: {what}. To continue, add --resume to the command.')
        raise SystemExit(128 + number)
