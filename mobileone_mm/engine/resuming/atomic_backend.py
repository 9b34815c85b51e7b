"""mmengine's local file backend that writes complete files and removes only its own."""

import logging
import os
from pathlib import Path
from typing import List, Tuple, Union

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from ...utils.fileio import atomic_path

__all__ = ['BACKEND', 'AtomicLocalBackend', 'LateRemovals']

BACKEND = 'atomic_local'


@register_backend(BACKEND)
class AtomicLocalBackend(LocalBackend):
    """The local disk, where a file appears only when it is complete."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes to a file, replacing it in one step."""
        filepath = Path(filepath)
        filepath.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)


class LateRemovals(AtomicLocalBackend):
    """Removes files in one directory, and only once their replacements exist.

    Args:
        directory: The directory of the files. Others are left alone, with a warning.
    """

    def __init__(self, directory: Union[str, Path]) -> None:
        self._directory = Path(directory).resolve()
        self._doomed: List[Tuple[Path, int]] = []

    def remove(self, filepath: Union[str, Path]) -> None:
        """Remember a file to remove."""
        path = Path(filepath)
        if self._owns(path):
            self._doomed.append((path, path.lstat().st_ino))

    def rmtree(self, dir_path: Union[str, Path]) -> None:
        """Remove a directory (a checkpoint of DeepSpeed) at once."""
        if self._owns(Path(dir_path)):
            super().rmtree(dir_path)

    def flush(self) -> None:
        """Remove the remembered files, unless new ones have replaced them."""
        while self._doomed:
            path, inode = self._doomed.pop()
            if os.path.lexists(path) and path.lstat().st_ino == inode:
                path.unlink()

    def _owns(self, path: Path) -> bool:
        owns = path.parent.resolve() == self._directory
        if not owns:
            print_log(f'{path} is not in {self._directory}: it is not removed',
                      logger='current', level=logging.WARNING)
        return owns
