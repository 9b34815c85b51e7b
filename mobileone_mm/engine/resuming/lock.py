"""Allow one training at a time in a directory."""

import errno
import os
import socket
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Iterator, Union

from ...utils.libraries import PreflightError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore

__all__ = ['lock_directories']

NAME = '.training.lock'


@contextmanager
def lock_directories(*directories: Union[str, Path]) -> Iterator[None]:
    """Keep other trainings out of directories, which are created if needed.

    This uses a lock of the operating system (``fcntl.lockf``) on the file ``.training.lock``. The
    lock ends with its process, so a leftover file locks nothing. On NFS it works across hosts.
    Windows has no such locks, nor do some network file systems, where a warning says so.

    Raises:
        PreflightError: Another process trains in one of them; the message names it.
    """
    with ExitStack() as stack:
        for directory in directories:
            stack.enter_context(_lock(Path(directory)))
        yield


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / NAME, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise PreflightError(
                    f'{directory} is in use by another training, {_owner(file)}: wait until it '
                    'ends, stop it, or choose another --work-dir') from None
            warnings.warn(f'{directory} cannot be locked ({error}): make sure that no other '
                          'training runs there')
        else:
            _sign(file)
        yield


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}, since '
               f'{time.strftime("%Y-%m-%d %H:%M:%S")}')
    file.flush()


def _owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200) or 'which has just started'
