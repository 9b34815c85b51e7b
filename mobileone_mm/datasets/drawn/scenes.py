"""Draw scenes with exact masks of what is visible: the images of the drawn data set.

Shape legend: H, W image height and width in pixels. Images are BGR uint8, masks bool (H, W).
"""
import math
from dataclasses import dataclass
from typing import List, Tuple

import cv2
import numpy as np

from .textures import PATTERNS, paint

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
#: Backgrounds, by the name of their texture.
BACKGROUNDS = tuple(PATTERNS)

SIDES = (256, 352)  # range of image height and of image width, px
SMALL = (.08, .16)  # side of an object, as a share of the shorter image side
LARGE = (.20, .60)
SMALL_SHARE = .2
CROWD_SHARE = .06  # of the images
MIN_VISIBLE = .5  # share of an object that must stay visible
# Color is a hint, as with many real objects: backgrounds are pale, and each class has its hues,
# which overlap with its neighbors'. OpenCV's HSV: hue 0-180, saturation and value 0-255.
HUE_JITTER = 20
OBJECT_RANGE = ((110, 70), (255, 255))  # lowest and highest saturation and value
BACKGROUND_RANGE = ((0, 50), (60, 220))


@dataclass(frozen=True)
class DrawnObject:
    """One annotated object: its class as an index into ``CLASSES`` and its visible pixels."""

    category: int
    mask: np.ndarray
    is_crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image, its objects (nearest last), and its background, an index into ``BACKGROUNDS``."""

    image: np.ndarray
    objects: List[DrawnObject]
    background: int


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radius = np.where(np.arange(2 * points) % 2, inner, 1.)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]


def _outlines(category: int) -> List[np.ndarray]:
    """Polygons (V, 2) within the unit circle; a second one is a hole."""
    circle = _star(32, 1.)
    arm, end = .32, .92
    return dict(
        circle=[circle],
        square=[np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * .8],
        triangle=[np.array([[0, -1], [.95, .8], [-.95, .8]])],
        star=[_star(5, .42)],
        cross=[np.array([[-arm, -end], [arm, -end], [arm, -arm], [end, -arm], [end, arm],
                         [arm, arm], [arm, end], [-arm, end], [-arm, arm], [-end, arm],
                         [-end, -arm], [-arm, -arm]])],
        ring=[circle, circle * .55])[CLASSES[category]]


def _coverage(rng: np.random.Generator, category: int, center: np.ndarray, side: float,
              size: Tuple[int, int]) -> np.ndarray:
    """Anti-aliased coverage (H, W), uint8, of one rotated and stretched shape."""
    turn = math.radians(rng.uniform(-25, 25))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    stretch = np.array([rng.uniform(.8, 1.25), 1.]) * side / 2
    fills = []
    for outline in _outlines(category):
        points = (outline * stretch) @ rotation.T + center
        fill = np.zeros(size, np.uint8)
        cv2.fillPoly(fill, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        fills.append(fill)
    return fills[0] if len(fills) == 1 else fills[0] - np.minimum(fills[0], fills[1])


def _color(rng: np.random.Generator, hue: float, limits: Tuple) -> np.ndarray:
    """A random color of one hue, (3,) BGR float32; the hue is taken modulo 180."""
    saturation, value = rng.uniform(*limits)
    hsv = np.array([[[hue % 180, saturation, value]]]).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


class _Canvas:
    """A scene that is being drawn, the farthest object first."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        height, width = rng.integers(SIDES[0], SIDES[1], 2, endpoint=True)
        self.size = (int(height), int(width))
        self.background = int(rng.integers(len(BACKGROUNDS)))
        self.image = paint(
            rng, self.size, _color(rng, rng.uniform(0, 180), BACKGROUND_RANGE),
            BACKGROUNDS[self.background], rng.uniform(8, 30))
        self.categories: List[int] = []
        self.crowds: List[bool] = []
        self.masks: List[np.ndarray] = []  # still visible
        self.areas: List[int] = []  # px, before anything was drawn over the object

    def _fits(self, mask: np.ndarray) -> bool:
        return all(
            np.count_nonzero(old & ~mask) >= MIN_VISIBLE * area
            for old, area in zip(self.masks, self.areas))

    def _paint_over(self, coverage: np.ndarray, category: int) -> None:
        hue = 180 * category / len(CLASSES) + self.rng.uniform(-HUE_JITTER, HUE_JITTER)
        x, y, w, h = cv2.boundingRect(coverage)
        coverage, below = coverage[y:y + h, x:x + w], self.image[y:y + h, x:x + w]
        pattern = BACKGROUNDS[int(self.rng.integers(len(BACKGROUNDS)))]
        texture = paint(self.rng, (h, w), _color(self.rng, hue, OBJECT_RANGE), pattern,
                        self.rng.uniform(5, 35))
        rim = cv2.morphologyEx(coverage, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        texture -= rim[..., None].astype(np.float32) * .15  # a slightly darker edge
        below += coverage[..., None].astype(np.float32) / 255 * (texture - below)

    def _add(self, category: int, coverage: np.ndarray, is_crowd: bool = False) -> bool:
        mask = coverage >= 128
        if np.count_nonzero(mask) < 36 or not self._fits(mask):
            return False
        self._paint_over(coverage, category)
        for old in self.masks:
            old &= ~mask
        self.masks.append(mask)
        self.areas.append(int(np.count_nonzero(mask)))
        self.categories.append(category)
        self.crowds.append(is_crowd)
        return True

    def add_object(self) -> bool:
        """Draw one object at a random place; False if it would hide too much of another."""
        rng = self.rng
        span = SMALL if rng.random() < SMALL_SHARE else LARGE
        side = min(self.size) * math.exp(rng.uniform(math.log(span[0]), math.log(span[1])))
        margin = .4 * side  # a shape may stick out of the image by a tenth of its side
        center = np.array([rng.uniform(margin, self.size[1] - margin),
                           rng.uniform(margin, self.size[0] - margin)])
        category = int(rng.integers(len(CLASSES)))
        return self._add(category, _coverage(rng, category, center, side, self.size))

    def add_crowd(self) -> bool:
        """Draw a group of small shapes of one class, annotated as one region as in COCO."""
        rng = self.rng
        category = int(rng.integers(len(CLASSES)))
        middle = np.array(self.size[::-1]) * rng.uniform(.25, .75, 2)
        group = np.zeros(self.size, np.uint8)
        for _ in range(int(rng.integers(11, 16))):
            center = middle + rng.normal(0, .08 * min(self.size), 2)
            one = _coverage(rng, category, center, .08 * min(self.size), self.size)
            group = np.maximum(group, one)
        return self._add(category, group, is_crowd=True)

    def finish(self) -> Scene:
        image = np.round(self.image).clip(0, 255).astype(np.uint8)
        objects = [DrawnObject(*parts) for parts in zip(self.categories, self.masks, self.crowds)]
        return Scene(image, objects, self.background)


def draw_scene(seed: Tuple[int, ...]) -> Scene:
    """Draw one scene of one to six objects, and in a few scenes a crowd.

    Args:
        seed (tuple[int, ...]): Non-negative integers. Equal seeds give equal scenes with the same
            versions of NumPy and OpenCV.

    Returns:
        The image with the visible mask of every object.
    """
    canvas = _Canvas(np.random.default_rng(seed))
    if canvas.rng.random() < CROWD_SHARE:
        canvas.add_crowd()
    wanted = len(canvas.masks) + int(canvas.rng.integers(1, 6, endpoint=True))
    for _ in range(50):
        if len(canvas.masks) >= wanted:
            break
        canvas.add_object()
    return canvas.finish()
