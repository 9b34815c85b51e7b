"""Turn the values of masks into labels."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence

import numpy as np
from PIL import Image

from .classes import IGNORE_INDEX, ClassTable
from .masks import Mask, displayed_size, image_size, to_text
from .pairing import Pair
from .survey import Look

__all__ = ['EXAMPLES', 'NEAR', 'Reading', 'as_color', 'distances', 'list_values', 'template']

EXAMPLES = 8  # how many values a message lists
NEAR = 32  # how far compression moves gray values and channels
PLAIN_MODES = ('1', 'L', 'P', 'I', 'I;16')  # modes that mmsegmentation reads as labels
# Pillow's operations, by EXIF orientation
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
         6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}


@dataclass
class Reading:
    """How masks become labels.

    Attributes:
        classes: The classes, including those with made-up names.
        table: Value -> label.
        as_colors: Whether the table's values are colors, 0xRRGGBB.
        reach: If set, a pixel takes the label of the nearest value, and is ignored if that is
            farther away than this.
        notes: What will be done, for the user.
    """

    classes: ClassTable
    table: Dict[int, int]
    as_colors: bool = False
    reach: Optional[float] = None
    notes: List[str] = field(default_factory=list)

    def labels(self, pair: Pair, mask: Mask) -> np.ndarray:
        """(H, W), uint8: the labels of a mask, in the size and orientation of its image."""
        values = mask.colors() if self.as_colors else mask.values
        found, inverse = np.unique(values, return_inverse=True)
        return _fitted(self._labels_of(found)[inverse.reshape(values.shape)], pair)

    def keeps(self, look: Look) -> bool:
        """Whether a mask can be used as it is: mmsegmentation would read these labels."""
        return (self.reach is None and not look.fit and look.mode in PLAIN_MODES and all(
            self.table[as_color(value, look) if self.as_colors else value] == value
            for value in look.values))

    def _labels_of(self, found: np.ndarray) -> np.ndarray:
        if self.reach is None:
            return np.array([self.table[value] for value in found.tolist()], np.uint8)
        values, labels = np.array(list(self.table)), np.array(list(self.table.values()), np.uint8)
        result = np.empty(len(found), np.uint8)
        for start in range(0, len(found), 4096):  # a compressed mask may have 100,000 colors
            part = distances(found[start:start + 4096], values, self.as_colors)
            nearest = labels[part.argmin(1)]
            result[start:start + 4096] = np.where(part.min(1) <= self.reach, nearest, IGNORE_INDEX)
        return result


def as_color(value: int, look: Look) -> int:
    """The color, 0xRRGGBB, of a mask's value; -1 for a gray value that is not a color."""
    if look.kind == 'index':
        return look.palette.get(value, 0)
    return value if look.kind == 'color' else value * 0x010101 if value < 256 else -1


def distances(left: np.ndarray, right: np.ndarray, colors: bool) -> np.ndarray:
    """(L, R): differences of numbers, or Euclidean distances of colors."""
    def points(values: np.ndarray) -> np.ndarray:
        shifts = (16, 8, 0) if colors else (0, )
        mask = 255 if colors else -1
        return np.stack([values >> shift & mask for shift in shifts], 1).astype(float)

    return np.linalg.norm(points(np.asarray(left))[:, None] - points(np.asarray(right)), axis=2)


def list_values(counts: Counter, kind: str) -> str:
    """The most frequent values with their shares, for messages."""
    total = sum(counts.values()) or 1
    text = ', '.join(f'{to_text(value, kind)} {count / total:.1%}'
                     for value, count in counts.most_common(EXAMPLES))
    return text + (f', and {len(counts) - EXAMPLES:,} more' if len(counts) > EXAMPLES else '')


def template(values: Sequence[int], kind: str) -> str:
    """The JSON that names these values, for messages."""
    texts = [f'"{to_text(v, kind)}"' if kind == 'color' else str(v) for v in values[:EXAMPLES]]
    dots = ', ...' if len(values) > EXAMPLES else ''
    return '{' + ', '.join(f'"NAME {i}": {text}' for i, text in enumerate(texts)) + dots + '}'


def _fitted(labels: np.ndarray, pair: Pair) -> np.ndarray:
    """Labels in the size and orientation of the loaded image."""
    stored, orientation = image_size(pair.image)
    displayed = displayed_size(stored, orientation)
    size = labels.shape[1], labels.shape[0]
    if size == displayed:
        return labels
    if size == stored:
        return np.asarray(Image.fromarray(labels).transpose(TURNS[orientation]))
    return np.asarray(Image.fromarray(labels).resize(displayed, Image.Resampling.NEAREST))
