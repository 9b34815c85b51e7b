"""Write pictures."""

from pathlib import Path
from typing import Union

import cv2
import numpy as np

from .fileio import atomic_path

__all__ = ['write_picture']


def write_picture(target: Union[str, Path], picture: np.ndarray) -> None:
    """Write a picture, BGR or gray, to a PNG that is complete or absent."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
