"""Read pictures from files, folders, videos and cameras, and write the drawn ones."""

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Set

import cv2
import numpy as np

from ..export.errors import ExportError
from ..export.samples import list_pictures, read_picture
from ..utils.pictures import write_picture

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')
MOST_PIXELS = 2 ** 26  # drawing takes 130 bytes of memory for each


class Frame(NamedTuple):
    """One picture to predict on.

    Attributes:
        name: Name for its results, without a suffix, unique within the source.
        file_name: Name of the picture's or video's file.
        picture: (H, W, 3), BGR, uint8.
    """

    name: str
    file_name: str
    picture: np.ndarray


class Source(NamedTuple):
    """A source of pictures.

    Attributes:
        name: Name for the result of a video.
        folder: Folder of the pictures or the video; None for a camera.
        count: Number of pictures; 0 if unknown.
        fps: Frames per second of a video or camera; 0 for pictures.
        frames: The pictures that can be read.
        problems: Filled while ``frames`` are read, with what could not be read.
    """

    name: str
    folder: Optional[Path]
    count: int  # type: ignore[assignment]  # tuple's own count() is not needed
    fps: float
    frames: Iterator[Frame]
    problems: List[str]


def open_source(where: str) -> Source:
    """Open a file, a folder, a video or a camera.

    Args:
        where: Path, or index of a camera.

    Raises:
        ExportError: Nothing can be read.
    """
    path = Path(where)
    if path.is_dir():
        return _pictures(path.name, path, list_pictures(path))
    if where.isdigit() and not path.exists():
        return _video(f'camera{where}', None, int(where))
    if path.suffix.lower() in VIDEOS and path.is_file():
        return _video(path.stem, path.parent, where)
    read_picture(path)
    return _pictures(path.stem, path.parent, [path])


def check_out(source: Source, out: Path) -> None:
    """Check that results cannot overwrite the originals.

    Raises:
        ExportError: ``out`` is the folder of the pictures or the video, or not a folder.
    """
    if out.exists() and not out.is_dir():
        raise ExportError(f'--out {out} is a file: expected a folder')
    if source.folder is not None and out.exists() and out.samefile(source.folder):
        raise ExportError(f'--out {out} is the folder of the originals, which results could '
                          'overwrite: choose another folder')


@contextmanager
def open_sink(source: Source, out: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """A function that writes drawn pictures, BGR: one file each, or one video.

    A video gets its name when it is complete, even if Ctrl-C ends it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source.fps:
        with _video_writer(out / f'{source.name}.mp4', source.fps) as write:
            yield write
    else:
        yield lambda name, picture: write_picture(out / f'{name}.png', picture)


def result_names(file_names: Sequence[str]) -> List[str]:
    """A name for the results of each picture: its own without the suffix, if that is unique.

    Names that differ only in suffix or case keep the suffix, and get a number if that is taken.
    """
    stems = Counter(Path(name).stem.lower() for name in file_names)
    taken: Set[str] = set()
    names = []
    for file_name in file_names:
        stem = Path(file_name).stem
        name = base = stem if stems[stem.lower()] == 1 else file_name
        number = 1
        while name.lower() in taken:
            number += 1
            name = f'{base}_{number}'
        taken.add(name.lower())
        names.append(name)
    return names


def _pictures(name: str, folder: Path, paths: List[Path]) -> Source:
    problems: List[str] = []

    def frames() -> Iterator[Frame]:
        for path, result in zip(paths, result_names([path.name for path in paths])):
            try:
                picture = read_picture(path)
                _check_size(picture, path)
            except ExportError as error:
                problems.append(str(error))
            else:
                yield Frame(result, path.name, picture)

    return Source(name, folder, len(paths), 0, frames(), problems)


def _check_size(picture: np.ndarray, path: Path) -> None:
    height, width = picture.shape[:2]
    if height * width > MOST_PIXELS:
        raise ExportError(f'{path} has {width}x{height} pixels, too many to draw on (at most '
                          f'{MOST_PIXELS:,}): cut it into tiles')


def _video(name: str, folder: Optional[Path], where: Any) -> Source:
    capture = cv2.VideoCapture(where)
    if not capture.isOpened():
        raise ExportError(f'{where} cannot be opened as a video or camera')
    count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    problems: List[str] = []

    def frames() -> Iterator[Frame]:
        read = 0
        try:
            found, frame = capture.read()
            while found:
                yield Frame(f'{name}_{read:06}', Path(str(where)).name, frame)
                read += 1
                found, frame = capture.read()
            if read < count - count // 100:  # some files only estimate the number
                problems.append(f'{where}: {read} of {count} frames could be read; the file is '
                                'damaged or truncated')
        finally:
            capture.release()

    return Source(name, folder, count, capture.get(cv2.CAP_PROP_FPS) or 25., frames(), problems)


@contextmanager
def _video_writer(target: Path, fps: float) -> Iterator[Callable[[str, np.ndarray], None]]:
    temporary = target.with_name(f'{target.stem}.{os.getpid()}.partial.mp4')
    writer = None

    def write(_: str, picture: np.ndarray) -> None:
        nonlocal writer
        if writer is None:
            height, width = picture.shape[:2]
            writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*'mp4v'), fps,
                                     (width, height))
        writer.write(picture)

    try:
        yield write
    except BaseException:
        if writer is not None:
            writer.release()
        temporary.unlink(missing_ok=True)
        raise
    if writer is not None:
        writer.release()
        os.replace(temporary, target)
