"""Unpack one downloaded archive: safely, with progress, and resuming after an interruption."""

import errno
import hashlib
import os
import shutil
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Iterator, Mapping, Optional, Tuple
from zipfile import ZipFile

import rich.progress

DOWNLOADS = 'downloads'
Member = Tuple[str, int, Callable[[], Any]]  # name, size, what opens it for reading


class ArchiveError(RuntimeError):
    """An archive is damaged, unsafe, or not the expected one."""


@dataclass(frozen=True)
class Archive:
    """A file to download, and the folder it becomes.

    Attributes:
        name: File name of the archive.
        url: Where its publisher offers it.
        top: The folder to take from the archive; everything else is left out.
        target: What ``top`` becomes, relative to the data root.
        counts: What ``target`` must hold: a pattern and the number of files that match it, or a
            ``.txt`` file and the number of its lines.
        md5: MD5 sum of the archive, for a tar: unlike a zip, it has no checksums of its members.
    """

    name: str
    url: str
    top: str
    target: str
    counts: Mapping[str, int]
    md5: Optional[str] = None

    def find(self, root: Path) -> Optional[Path]:
        """The archive on disk, in ``root`` or its folder ``downloads``."""
        places = (root / DOWNLOADS / self.name, root / self.name)
        return next((place for place in places if place.is_file()), None)


def wrong_counts(folder: Path, counts: Mapping[str, int]) -> str:
    """How ``folder`` differs from ``counts``, in words; empty if it does not."""
    found = {pattern: count(folder, pattern) for pattern in counts}
    return ', '.join(f'{pattern}: {found[pattern]:,} instead of {number:,}'
                     for pattern, number in counts.items() if found[pattern] != number)


def count(folder: Path, pattern: str) -> int:
    """Number of files that match ``pattern``, or of lines in the ``.txt`` file of that name."""
    if pattern.endswith('.txt'):
        path = folder / pattern
        return len(path.read_text().split()) if path.is_file() else 0
    return sum(1 for _ in folder.glob(pattern))


def unpack(archive: Archive, root: Path) -> None:
    """Unpack into ``<target>.partial``, count the files, and only then rename it to the target.

    A run continues where an interrupted one stopped. Links and devices are not unpacked.

    Raises:
        ArchiveError: The archive is missing, damaged or incomplete, has a member that points
            outside, or does not hold what it should; or the disk is too full.
    """
    path, target = archive.find(root), root / archive.target
    if path is None:
        raise ArchiveError(f'{archive.name} is not in {root}: download it from {archive.url}')
    building = target.with_name(f'{target.name}.partial')
    size, free = path.stat().st_size, shutil.disk_usage(root).free
    if not building.exists() and free < size:
        raise ArchiveError(f'{path} needs at least {size:,} bytes of disk, {free:,} are free')
    if archive.md5:
        _check_md5(path, archive.md5)
    try:
        with rich.progress.open(path, 'rb', description=path.name) as stream:
            members = _zip_members if path.suffix == '.zip' else _tar_members
            for name, member_size, open_member in members(stream):
                inside = _inside(name, archive.top, path)
                if inside is not None:
                    _write(building / inside, member_size, open_member)
    except ArchiveError:
        raise
    except NotImplementedError as error:  # from zipfile: an unknown compression method or version
        raise ArchiveError(f'{path} cannot be unpacked here ({error}): it is not the published '
                           f'archive. Download it from {archive.url}') from error
    except Exception as error:  # zipfile, tarfile and the decompressors raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise ArchiveError(_disk_problem(error, path)) from error
        raise ArchiveError(f'{path} is damaged or incomplete ({error or type(error).__name__}): '
                           'download it again; what has been unpacked so far is kept in '
                           f'{building}') from error
    wrong = wrong_counts(building, archive.counts)
    if wrong:
        raise ArchiveError(f'{path} is not the published archive, or incomplete: {wrong}. '
                           f'Download it from {archive.url}')
    building.rename(target)


def _disk_problem(error: OSError, path: Path) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return f'{path} has a member with too long a name: this is not the published archive'
    return f'{path} could not be unpacked: {error.strerror} ({error.filename or "while writing"})'


def _check_md5(path: Path, expected: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with rich.progress.open(path, 'rb', description=f'checking {path.name}') as stream:
        for chunk in iter(partial(stream.read, 1 << 20), b''):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ArchiveError(f'{path} is damaged, incomplete or another file: its MD5 sum is '
                           f'{digest.hexdigest()}, not {expected}. Download it again')


def _zip_members(stream: IO[bytes]) -> Iterator[Member]:
    with ZipFile(stream) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise ArchiveError(f'{stream.name} is encrypted: this is not the '
                                   'published archive')
            if not info.is_dir():
                yield info.filename, info.file_size, partial(file.open, info)


def _tar_members(stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=stream) as file:
        for info in file:
            if info.isreg():
                yield info.name, info.size, partial(file.extractfile, info)


def _inside(name: str, top: str, path: Path) -> Optional[PurePosixPath]:
    """The member's path below ``top``, or None if it lies elsewhere."""
    member = PurePosixPath(name)
    if member.is_absolute() or '..' in member.parts or any(c in name for c in '\\:\0'):
        raise ArchiveError(f'{path} has the member {name!r}, which points outside the target '
                           'folder: this is not the published archive')
    return member.relative_to(top) if PurePosixPath(top) in member.parents else None


def _write(destination: Path, size: int, open_member: Callable[[], Any]) -> None:
    if destination.is_file() and destination.stat().st_size == size:
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f'{destination.name}.tmp')
    with open_member() as source, open(temporary, 'wb') as file:
        shutil.copyfileobj(source, file)
    os.replace(temporary, destination)
