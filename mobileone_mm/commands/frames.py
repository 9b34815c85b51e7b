"""Pictures from files, folders, videos and cameras, and where the drawn ones go."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Tuple

import cv2
import numpy as np

from ..export.errors import ExportError
from ..export.samples import list_pictures, read_picture
from ..utils.fileio import atomic_path

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


class Source(NamedTuple):
    """Where pictures come from.

    Attributes:
        name: For the result of a video.
        count: Number of pictures; 0 where it is not known.
        fps: Of a video or camera; 0 for pictures.
        frames: The pictures with their names, BGR, uint8.
    """

    name: str
    count: int  # type: ignore[assignment]  # tuple's own count() is not needed
    fps: float
    frames: Iterator[Tuple[str, np.ndarray]]


def open_source(where: str) -> Source:
    """Pictures of a file, a folder, a video or a camera.

    Args:
        where: A path, or the index of a camera.

    Raises:
        ExportError: There is nothing that can be read.
    """
    path = Path(where)
    if path.is_dir():
        paths = list_pictures(path)
        return Source(path.name, len(paths), 0, ((p.name, read_picture(p)) for p in paths))
    if where.isdigit() and not path.exists():
        return _video(f'camera{where}', int(where))
    if path.suffix.lower() in VIDEOS and path.is_file():
        return _video(path.stem, where)
    return Source(path.stem, 1, 0, iter([(path.name, read_picture(path))]))


@contextmanager
def open_sink(source: Source, out: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """A function that takes the drawn pictures, BGR: a file each, or one video.

    A video gets its name when it is complete, be it by Ctrl-C.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source.fps:
        with _video_writer(out / f'{source.name}.mp4', source.fps) as write:
            yield write
    else:
        yield lambda name, picture: _write_picture(out / f'{Path(name).stem}.png', picture)


def _video(name: str, where: Any) -> Source:
    capture = cv2.VideoCapture(where)
    if not capture.isOpened():
        raise ExportError(f'{where} cannot be opened as a video or camera')

    def frames() -> Iterator[Tuple[str, np.ndarray]]:
        try:
            found, frame = capture.read()
            while found:
                yield name, frame
                found, frame = capture.read()
        finally:
            capture.release()

    count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    return Source(name, count, capture.get(cv2.CAP_PROP_FPS) or 25., frames())


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


def _write_picture(target: Path, picture: np.ndarray) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
