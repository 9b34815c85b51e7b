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
except ImportError:
    fcntl = None  # type: ignore
try:
    import msvcrt  # of Windows
except ImportError:
    msvcrt = None  # type: ignore

__all__ = ['lock_directories']

NAME = '.training.lock'
FAR = 1 << 30  # Windows lets nobody read the bytes that it locks, so one after the owner's name


@contextmanager
def lock_directories(*directories: Union[str, Path]) -> Iterator[None]:
    """Keep other trainings out of directories, which are created if needed.

    This uses a lock of the operating system (``fcntl.lockf``, on Windows ``msvcrt.locking``) on the
    file ``.training.lock``. The lock ends with its process, so a leftover file locks nothing. It
    works across hosts on NFS. Some network file systems have no such locks; a warning says so.

    Raises:
        PreflightError: Another process trains in one of them; the message names it.
    """
    with ExitStack() as stack:
        for directory in directories:
            stack.enter_context(_lock(Path(directory)))
        yield


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / NAME, 'a+', encoding='utf-8') as file:
        try:
            _lock_file(file)
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


def _lock_file(file: IO[str]) -> None:
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    os.lseek(file.fileno(), FAR, os.SEEK_SET)
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}, since '
               f'{time.strftime("%Y-%m-%d %H:%M:%S")}')
    file.flush()


def _owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200) or 'which has just started'
