"""Random textures, so that objects and backgrounds of a drawn scene are not flat.

Shape legend: H, W image height and width in pixels. Colors are BGR, 0-255, float32.
"""
import math
from typing import Callable, Dict, Tuple

import cv2
import numpy as np

Size = Tuple[int, int]


def _coordinates(size: Size) -> Tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size[0], :size[1]].astype(np.float32)
    return y, x


def _waves(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Sine of a ramp in a random direction, (H, W) in [-1, 1]."""
    y, x = _coordinates(size)
    angle = rng.uniform(0, math.pi)
    period = rng.uniform(6, 24)
    ramp = x * math.cos(angle) + y * math.sin(angle)
    return np.sin(2 * math.pi / period * ramp)


def stripes(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Hard-edged stripes."""
    return np.sign(_waves(rng, size))


def checks(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A checkerboard: stripes in two directions."""
    return np.sign(_waves(rng, size) * _waves(rng, size))


def ripples(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Smooth waves."""
    return _waves(rng, size)


def clouds(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Large soft blobs."""
    coarse = rng.uniform(-1, 1, (8, 8)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(-1, 1)


def grain(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Independent pixels."""
    return rng.uniform(-1, 1, size).astype(np.float32)


def ramp(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A linear ramp across the canvas."""
    y, x = _coordinates(size)
    angle = rng.uniform(0, 2 * math.pi)
    plane = (x / size[1] - .5) * math.cos(angle) + (y / size[0] - .5) * math.sin(angle)
    return (plane / max(float(np.abs(plane).max()), 1e-6)).astype(np.float32)


#: Name -> function of (generator, (H, W)) that returns an (H, W) pattern in [-1, 1].
PATTERNS: Dict[str, Callable[[np.random.Generator, Size], np.ndarray]] = dict(
    stripes=stripes, checks=checks, ripples=ripples, clouds=clouds, grain=grain, ramp=ramp)


def paint(rng: np.random.Generator, size: Size, color: np.ndarray, pattern: str,
          contrast: float) -> np.ndarray:
    """Fill a canvas with a pattern around one color.

    Args:
        rng (np.random.Generator): The source of all randomness.
        size (tuple[int, int]): (H, W).
        color (np.ndarray): (3,), the mean color.
        pattern (str): A key of ``PATTERNS``.
        contrast (float): Amplitude of the pattern, in gray levels.

    Returns:
        (H, W, 3), not yet clipped to 0-255.
    """
    tint = rng.uniform(.5, 1, 3).astype(np.float32) * contrast
    canvas = color + PATTERNS[pattern](rng, size)[..., None] * tint
    return canvas + rng.normal(0, 4, (*size, 1)).astype(np.float32)  # sensor-like noise
