"""Write files atomically: neither a reader nor a crash sees half of one."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def atomic_path(target: Union[str, Path]) -> Iterator[Path]:
    """A temporary path beside ``target`` that replaces it when the block succeeds.

    The content is flushed to disk before the rename, which is atomic on POSIX. After an exception,
    the temporary file is removed and ``target`` stays as it was.

    Args:
        target: The file to write. Its directory must exist.

    Yields:
        The path to write to. It does not end like ``target``, so patterns for results skip it.
    """
    target = Path(target)
    temporary = target.with_name(f'{target.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
