"""Turn folders of images and masks into lists of pairs whose masks hold labels."""

import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ...utils.fileio import atomic_path
from ...utils.libraries import PreflightError
from .classes import IGNORE_INDEX, ClassTable
from .decide import decide
from .masks import displayed_size, image_size, read_mask
from .pairing import Pair, find_pairs, split_pairs
from .reading import Reading
from .survey import Look, parallel, survey

__all__ = ['WITHOUT_MASK', 'Folders', 'Prepared', 'Split', 'prepare', 'write_data']

WITHOUT_MASK = ('error', 'skip', 'background')
SHOWN = 5  # how many files with problems a message lists
MARK = 'Written by tools/custom_seg.py, which may replace the files here.\n'


class Folders(NamedTuple):
    """The folders of one part of the data."""

    images: Path
    masks: Path


@dataclass
class Split:
    """The pairs to train or to validate on.

    Attributes:
        name: 'train' or 'val'.
        folders: The folders of the images and the masks.
        pairs: Image and mask of each sample.
        looks: What the survey saw in each mask, by the pair's name.
        pixels: Number of pixels of each label and, last, of ignored ones.
    """

    name: str
    folders: Folders
    pairs: List[Pair]
    looks: Dict[str, Look] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def describe(self, names: Sequence[str]) -> str:
        """Images, and the share of pixels of each class."""
        total = max(1, int(self.pixels.sum()))
        shares = ', '.join(f'{name} {count / total:.2%}'
                           for name, count in zip([*names, 'left out'], self.pixels.tolist()))
        return f'{self.name}: {len(self.pairs):,} images; pixels: {shares}'


class Prepared(NamedTuple):
    """Both parts, how their masks are read, and notes for the user."""

    train: Split
    val: Split
    reading: Reading
    notes: List[str]


def prepare(train: Folders, val: Optional[Folders], val_share: float = .2, *, seed: int = 0,
            classes: Optional[ClassTable] = None, ignored: Sequence[Tuple[int, str]] = (),
            without_mask: str = 'error', progress: bool = True) -> Prepared:
    """Read all images and masks and decide what the masks mean; nothing is written.

    Args:
        train: Folders to train on.
        val: Folders to validate on; None splits ``train``.
        val_share: Share of ``train`` that goes to validation if ``val`` is None.
        seed: Seed of this split.
        classes: The classes as the user describes them, if so.
        ignored: Values that mean 'ignore this pixel', each with its kind.
        without_mask: What to do with images without a mask: ``'error'``, ``'skip'`` or
            ``'background'``.
        progress: Whether to show a progress bar.

    Raises:
        PreflightError: Files are missing or damaged, or the masks have no meaning or several.
    """
    notes: List[str] = []
    pairs = _pairs(train, without_mask, notes)
    if val is None:
        val, (train_pairs, val_pairs) = train, split_pairs(pairs, val_share, seed)
    else:
        train_pairs, val_pairs = pairs, _pairs(val, without_mask, notes)
    splits = Split('train', train, train_pairs), Split('val', val, val_pairs)
    found = survey([*train_pairs, *val_pairs], progress)
    if found.problems:
        more = len(found.problems) - SHOWN
        raise PreflightError('\n'.join(
            found.problems[:SHOWN] + ([f'and {more:,} more such masks'] if more > 0 else [])))
    reading = decide(found, classes, ignored)
    looks = {(look.pair.image, look.pair.name): look for look in found.looks}
    for split in splits:
        split.looks = {pair.name: looks[pair.image, pair.name] for pair in split.pairs
                       if pair.mask is not None}
    return Prepared(*splits, reading, notes + reading.notes + _size_notes(found.looks))


def _pairs(folders: Folders, without_mask: str, notes: List[str]) -> List[Pair]:
    pairing = find_pairs(*folders)
    notes += [note for note in pairing.notes if note not in notes]
    bare = [pair for pair in pairing.pairs if pair.mask is None]
    if not bare or without_mask == 'background':
        if bare:
            notes.append(f'{len(bare):,} images have no mask: all their pixels are background')
        return pairing.pairs
    if without_mask == 'error':
        raise PreflightError(
            f'{len(bare):,} of {len(pairing.pairs):,} images have no mask in {folders.masks}, for '
            f'example {bare[0].image}: add the masks, or choose --without-mask skip (leave these '
            'images out) or --without-mask background (they show no object)')
    notes.append(f'{len(bare):,} images have no mask and are left out')
    return [pair for pair in pairing.pairs if pair.mask is not None]


def _size_notes(looks: Sequence[Look]) -> List[str]:
    texts = dict(resize='differ in size from their images and are resized',
                 rotate='are rotated by the EXIF orientation of their images')
    notes = []
    for fit, text in texts.items():
        found = [look for look in looks if look.fit == fit]
        if found:
            notes.append(f'{len(found):,} of {len(looks):,} masks {text}, for example '
                         f'{found[0].pair.mask}')
    return notes


def write_data(prepared: Prepared, folder: Path, progress: bool = True) -> Tuple[Split, Split]:
    """Write the lists of pairs and, if masks do not hold labels as they are, new masks.

    Args:
        prepared: The result of :func:`prepare`; ``pixels`` of both parts are filled in.
        folder: Where the lists ``train.json`` and ``val.json`` and the folders of new masks go.
        progress: Whether to show a progress bar.

    Returns:
        Both parts, with the new folder of masks if masks were written.

    Raises:
        PreflightError: The folder exists and is not ours, or fewer than two classes occur.
    """
    mark = folder / 'README.txt'
    ours = mark.is_file() and mark.read_bytes() == MARK.encode()
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise PreflightError(f'{folder} is in the way: it was not written by this tool; move it, '
                             'or choose another --out')
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_bytes(MARK.encode())  # first, so that an interrupted run can be repeated
    done = []
    for split in (prepared.train, prepared.val):
        keep = all(pair.mask is not None and prepared.reading.keeps(split.looks[pair.name])
                   for pair in split.pairs)
        masks = split.folders.masks if keep else folder / 'masks' / split.name
        if keep:
            split.pixels = np.sum([_counted(prepared.reading, look)
                                   for look in split.looks.values()], 0)
        else:
            work = partial(_convert, prepared.reading, masks)
            split.pixels = np.sum(list(parallel(work, split.pairs, progress)), 0)
        done.append(replace(split, folders=Folders(split.folders.images, masks)))
        if not keep:
            prepared.notes.append(f'masks with labels are written to {masks}')
    _check_classes(done[0], prepared.reading.classes)
    for split in done:
        _write_list(split, folder / f'{split.name}.json')
    return done[0], done[1]


def _counted(reading: Reading, look: Look) -> np.ndarray:
    """Count the pixels of each class and, last, the ignored ones, in a mask that is kept."""
    counts = np.zeros(256, np.int64)
    for value, count in look.values.items():
        counts[value] = count
    return _by_class(reading, counts)


def _by_class(reading: Reading, counts: np.ndarray) -> np.ndarray:
    return np.append(counts[:len(reading.classes.names)], counts[IGNORE_INDEX])


def _convert(reading: Reading, out: Path, pair: Pair) -> np.ndarray:
    """Write the labels of a mask, and count its pixels like :func:`_counted`."""
    if pair.mask is None:
        width, height = displayed_size(*image_size(pair.image))
        labels = np.zeros((height, width), np.uint8)
    else:
        labels = reading.labels(pair, read_mask(pair.mask))
    target = out / f'{pair.name}.png'
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as path:
        Image.fromarray(labels).save(path, format='PNG')
    return _by_class(reading, np.bincount(labels.reshape(-1), minlength=256))


def _check_classes(train: Split, classes: ClassTable) -> None:
    found = [name for name, count in zip(classes.names, train.pixels) if count]
    if len(found) < 2:
        what = f'{found[0]!r} is the only class' if found else 'there is no class'
        raise PreflightError(f'{train.folders.masks}: {what} in all training masks, so there is '
                             'nothing to learn')


def _write_list(split: Split, path: Path) -> None:
    images, masks = split.folders
    pairs = []
    for pair in split.pairs:
        mask = f'{pair.name}.png'  # as it is rewritten
        if pair.mask is not None and masks in pair.mask.parents:
            mask = pair.mask.relative_to(masks).as_posix()
        pairs.append([pair.image.relative_to(images).as_posix(), mask])
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(pairs, indent=0), encoding='utf-8')
