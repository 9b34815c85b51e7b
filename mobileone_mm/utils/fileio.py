"""Write files atomically: no reader and no crash ever sees half of one."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def atomic_path(target: Union[str, Path]) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place once the block has ended well.

    The content is flushed to disk before the rename, which POSIX makes atomic. After an exception
    the temporary file is removed and ``target`` is as it was.

    Args:
        target: The file to write. Its directory must exist.

    Yields:
        The path to write to; it does not end like ``target``, so no pattern for results finds it.
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
