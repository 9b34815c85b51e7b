"""Survey all masks: sizes, formats, and how often each value occurs."""

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.progress import track

from .masks import Mask, MaskError, displayed_size, image_size, read_mask
from .pairing import Pair

__all__ = ['Look', 'Survey', 'parallel', 'survey']

MANY = 256  # how many values of a mask are counted; masks with more of them are smeared
ASPECT = .02  # how much the aspect ratios of an image and its mask may differ


class Look(NamedTuple):
    """What the survey saw in one mask.

    Attributes:
        pair: The image and the mask.
        kind: Kind of its values: ``'gray'``, ``'index'`` or ``'color'``.
        mode: Pillow's name of the pixel format.
        lossy: Whether its compression is lossy.
        values: How often each value occurs: the most frequent :data:`MANY`.
        others: Number of pixels with other values.
        palette: Color of each index.
        fit: What its size needs: ``''``, ``'resize'`` or ``'rotate'``.
        image_size: Width and height of the image as it is displayed.
        problem: What is wrong with the file; empty if nothing is.
    """

    pair: Pair
    kind: str = 'gray'
    mode: str = ''
    lossy: bool = False
    values: Dict[int, int] = {}
    others: int = 0
    palette: Dict[int, int] = {}
    fit: str = ''
    image_size: Tuple[int, int] = (0, 0)
    problem: str = ''


@dataclass
class Survey:
    """What the survey saw in all masks.

    Attributes:
        looks: One for each pair that has a mask.
        values: Kind -> value -> number of pixels.
        seen_in: Kind -> value -> a mask that holds it.
        smeared: Kinds that have too many values to list -> a mask.
    """

    looks: List[Look] = field(default_factory=list)
    values: Dict[str, Counter] = field(default_factory=dict)
    seen_in: Dict[str, Dict[int, str]] = field(default_factory=dict)
    smeared: Dict[str, str] = field(default_factory=dict)

    def add(self, look: Look) -> None:
        """Add a mask to the counts."""
        self.looks.append(look)
        if look.problem:
            return
        counts = self.values.setdefault(look.kind, Counter())
        places = self.seen_in.setdefault(look.kind, {})
        for value, count in look.values.items():
            counts[value] += count
            places.setdefault(value, str(look.pair.mask))
        if look.others or look.lossy:
            self.smeared.setdefault(look.kind, str(look.pair.mask))

    @property
    def problems(self) -> List[str]:
        """What is wrong with single files."""
        return [look.problem for look in self.looks if look.problem]


def survey(pairs: Sequence[Pair], progress: bool = True) -> Survey:
    """Read every mask of the pairs.

    Args:
        pairs: Images and masks; those without a mask are skipped.
        progress: Whether to show a progress bar.
    """
    found = Survey()
    masked = [pair for pair in pairs if pair.mask is not None]
    for look in parallel(look_at, masked, progress):
        found.add(look)
    return found


def parallel(function: Callable, items: Sequence, progress: bool = True) -> Iterator:
    """Results of a function, in order. Threads help because decoding releases Python's lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from track(pool.map(function, items), 'masks', len(items),
                         console=Console(stderr=True),
                         disable=not (progress and sys.stderr.isatty()))


def look_at(pair: Pair) -> Look:
    """Read one mask; problems with it are returned, not raised."""
    try:
        mask = read_mask(pair.mask)  # type: ignore[arg-type]
        fit, displayed = _fit(pair, mask)
    except MaskError as error:
        return Look(pair, problem=str(error))
    values, counts = np.unique(mask.values, return_counts=True)
    if values[0] < 0:
        return Look(pair, problem=f'{pair.mask}: holds the label {values[0]}: expected 0 or more')
    order = np.argsort(-counts, kind='stable')[:MANY]
    return Look(pair, mask.kind, mask.mode, mask.lossy,
                values=dict(zip(values[order].tolist(), counts[order].tolist())),
                others=int(counts.sum() - counts[order].sum()), palette=mask.palette, fit=fit,
                image_size=displayed)


def _fit(pair: Pair, mask: Mask) -> Tuple[str, Tuple[int, int]]:
    stored, orientation = image_size(pair.image)
    displayed = displayed_size(stored, orientation)
    if mask.size == displayed:
        return '', displayed
    if mask.size == stored:
        return 'rotate', displayed
    (width, height), (w, h) = displayed, mask.size
    if abs(w * height / (h * width) - 1) <= ASPECT:
        return 'resize', displayed
    raise MaskError(f'{pair.mask}: {w}x{h} pixels, but its image {pair.image.name} has '
                    f'{width}x{height}, another aspect ratio: it is not the mask of this image')
