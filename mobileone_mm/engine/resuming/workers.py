"""End the workers of data loaders at once, but only when the main process says so."""

import os
import signal
import threading
from functools import partial
from typing import Any, Callable, Optional

from torch.utils.data import DataLoader

__all__ = ['end_workers', 'shield_workers']


def end_workers(loader: DataLoader) -> None:
    """End the persistent workers of a loader; the next iteration over it starts new ones.

    The garbage collector would take five seconds for each: a runner is part of a reference cycle,
    where the queues are finalized before the loader can end its workers.
    """
    loader._iterator = None


def shield_workers(loader: DataLoader) -> None:
    """Keep SIGINT, SIGTERM and SIGHUP from ending the future workers of a loader.

    Ctrl-C, ``timeout``, a closed terminal and cluster schedulers signal the whole process group. If
    workers died of it, the main process would end with an error before it could save.

    Args:
        loader: The loader, which is changed in place and must not have been iterated yet.
    """
    if not isinstance(loader.worker_init_fn, partial) or loader.worker_init_fn.func is not _start:
        loader.worker_init_fn = partial(_start, loader.worker_init_fn)
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS and Windows
            vars(loader)['_get_iterator'] = partial(_with_signals_blocked, loader._get_iterator)


def _with_signals_blocked(make: Callable) -> Any:
    """Block signals while workers start: they must not die before they call :func:`_start`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        return make()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(then: Optional[Callable[[int], None]], worker_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, 'SIGHUP'):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, 'sigwaitinfo'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # if it is not yet
        threading.Thread(target=_obey_parent, args=(os.getppid(), ), daemon=True).start()
    if then is not None:
        then(worker_id)


def _obey_parent(parent: int) -> None:
    """End when the main process says so, as when multiprocessing exits."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (parent, os.getpid()):
        pass
    os._exit(0)
