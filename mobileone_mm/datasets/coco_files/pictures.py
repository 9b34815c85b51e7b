"""The size of an image file, and where its EXIF orientation moves a box."""

from pathlib import Path
from typing import List, NamedTuple, Tuple

import cv2
from PIL import Image, UnidentifiedImageError

__all__ = ['Picture', 'Size', 'read_picture', 'turn_box']

Size = Tuple[int, int]  # width, height


class Picture(NamedTuple):
    """Size and orientation in an image file."""

    stored: Size
    orientation: int  # EXIF's, 1 to 8; 1 if the loader ignores it

    @property
    def loaded(self) -> Size:
        """The size that mmdet sees."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def read_picture(path: Path, ignore_exif: bool = False) -> Picture:
    """Read an image's size and orientation, for most formats without its pixels.

    Args:
        path: The file.
        ignore_exif: Whether the loader leaves images as stored.

    Raises:
        ValueError: It cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            orientation = 1 if ignore_exif else image.getexif().get(0x0112, 1)
            if image.format in ('JPEG', 'MPO') or orientation == 1:
                return Picture(image.size, orientation if orientation in range(2, 9) else 1)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError):
        pass
    loaded = cv2.imread(str(path))  # only OpenCV knows which formats it reads and rotates
    if loaded is None:
        raise ValueError(f'{path} cannot be read as an image: copy it again, or remove its entry')
    return Picture(loaded.shape[1::-1], 1)


def turn_box(box: List[float], stored: Size, orientation: int) -> List[float]:
    """Move a box of the stored picture to the upright one, as x, y, width, height.

    Args:
        box: x, y, width, height.
        stored: Width and height of the picture as stored.
        orientation: EXIF's, 1 to 8.
    """
    x, y, w, h = box
    mirrored_x, mirrored_y = stored[0] - x - w, stored[1] - y - h
    x, y = {1: (x, y), 2: (mirrored_x, y), 3: (mirrored_x, mirrored_y), 4: (x, mirrored_y),
            5: (y, x), 6: (mirrored_y, x), 7: (mirrored_y, mirrored_x), 8: (y, mirrored_x),
            }[orientation]
    return [x, y, h, w] if orientation >= 5 else [x, y, w, h]
