"""Keep the console quiet, except for warnings, until training or testing begins.

Before the first iteration, mmengine logs the environment, the config, the hooks and the settings of
every parameter, more than a thousand lines. They only go to the log file.
"""

import logging
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

__all__ = ['quiet_start']


class _Quiet(logging.Filter):
    """Passes only warnings until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record goes to the console."""
        return self.is_open or record.levelno >= logging.WARNING


class _OpeningHook(Hook):
    """Opens the console when training or testing begins."""

    priority = 'LOWEST'

    def __init__(self, quiet: _Quiet) -> None:
        self._quiet = quiet

    def before_train(self, runner: Runner) -> None:
        self._quiet.is_open = True

    def before_test(self, runner: Runner) -> None:
        self._quiet.is_open = True


@contextmanager
def quiet_start(verbose: bool = False) -> Iterator[Callable[[Any], Any]]:
    """A block in which to build a runner, and to pass it to the yielded function.

    Args:
        verbose: Whether to change nothing.

    Yields:
        A function that returns the runner, which then opens the console itself.
    """
    quiet, build = _Quiet(), Runner.build_logger

    def build_logger(self: Runner, *args: Any, **kwargs: Any) -> MMLogger:
        logger = build(self, *args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(quiet)
            elif is_main_process():
                print(f'log: {handler.baseFilename}')
        return logger

    def hand_over(runner: Any) -> Any:
        if isinstance(runner, Runner):
            runner.register_hook(_OpeningHook(quiet))
        return runner

    if verbose:
        yield lambda runner: runner
        return
    Runner.build_logger = build_logger
    try:
        yield hand_over
    finally:
        Runner.build_logger = build
