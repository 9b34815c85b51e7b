"""Find the mask of each image."""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from ...utils.libraries import PreflightError

__all__ = ['PICTURES', 'Pair', 'Pairing', 'find_pairs', 'split_pairs']

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif')
DIGITS = '0123456789'
SAMPLE = 50  # how many images are used to learn the pattern of the masks' names
Affix = Tuple[str, str]


class Pair(NamedTuple):
    """An image and its mask; ``mask`` is None if there is none."""

    name: str
    image: Path
    mask: Optional[Path]


class Pairing(NamedTuple):
    """The pairs of two folders, by name, and notes for the user."""

    pairs: List[Pair]
    notes: List[str]


def find_pairs(images: Union[str, Path], masks: Union[str, Path]) -> Pairing:
    """Pair the pictures of two folders, subfolders included, by their names.

    A mask has the name of its image, whatever the suffixes (``a.JPG``, ``a.png``). All masks may
    have the same text before or after the name (``a_mask.png``), and so may all images
    (``a_sat.jpg``). Hidden files are skipped.

    Raises:
        PreflightError: A folder is missing or holds no pictures, no mask has the name of an image,
            or two files have the same name.
    """
    images, masks = Path(images).absolute(), Path(masks).absolute()
    for folder in (images, masks):
        if not folder.is_dir():
            raise PreflightError(f'{folder}: no such folder')
    if os.path.samefile(images, masks):
        image_files, mask_files = _separate(_pictures(images), images)
    else:
        image_files, mask_files = _pictures(images), _pictures(masks)
    by_image, by_mask = _by_name(image_files, images), _by_name(mask_files, masks)
    notes = []
    chosen = _pattern(list(by_image), list(by_mask))
    if chosen is None:
        raise PreflightError(
            f'no mask in {masks} (such as {_first(by_mask)}) is named like an image in {images} '
            f'(such as {_first(by_image)}): name them alike, or with the same ending for all, as '
            'a.jpg and a_mask.png')
    (image_affix, mask_affix) = chosen
    if any(image_affix) or any(mask_affix):
        notes.append(f'image {image_affix[0]}NAME{image_affix[1]} goes with mask '
                     f'{mask_affix[0]}NAME{mask_affix[1]}')
    pairs = []
    for name, image in by_image.items():
        core = _core(name, image_affix)
        partner = None if core is None else by_mask.pop(_with(core, mask_affix), None)
        pairs.append(Pair(name, image, partner))
    if by_mask:
        notes.append(f'{len(by_mask):,} masks have no image and are left out, for example '
                     f'{_first(by_mask)}')
    return Pairing(pairs, notes)


def split_pairs(pairs: Sequence[Pair], share: float, seed: int = 0
                ) -> Tuple[List[Pair], List[Pair]]:
    """Split pairs into those to train on and those to validate on.

    The choice depends only on the names and the seed, not on the order or the machine.

    Args:
        pairs: At least two.
        share: Share of validation, above 0 and below 1; each part gets at least one pair.
        seed: Selects the choice.

    Raises:
        PreflightError: There are fewer than two pairs, or the share is out of range.
    """
    if not 0 < share < 1:
        raise PreflightError(f'--val-share {share}: expected a number between 0 and 1')
    if len(pairs) < 2:
        raise PreflightError(f'--val-share needs at least 2 images with masks, found {len(pairs)}')
    count = min(len(pairs) - 1, max(1, round(share * len(pairs))))

    def key(pair: Pair) -> bytes:
        return hashlib.sha256(f'{seed}:{pair.name}'.encode()).digest()

    chosen = {pair.name for pair in sorted(pairs, key=key)[:count]}
    return ([pair for pair in pairs if pair.name not in chosen],
            [pair for pair in pairs if pair.name in chosen])


def _pictures(folder: Path) -> List[Path]:
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in PICTURES
                   and not any(part.startswith('.') for part in path.relative_to(folder).parts)
                   and path.is_file())
    if not found:
        raise PreflightError(f'{folder}: holds no pictures ({", ".join(PICTURES)})')
    return found


def _separate(files: List[Path], folder: Path) -> Tuple[List[Path], List[Path]]:
    """Split a folder of images and masks: photographs are JPEG files, masks are not."""
    photographs = [path for path in files if path.suffix.lower() in ('.jpg', '.jpeg')]
    if not photographs or len(photographs) == len(files):
        raise PreflightError(f'{folder} is given as the folder of both images and masks: '
                             'put the masks into a folder of their own')
    return photographs, [path for path in files if path not in set(photographs)]


def _by_name(files: Iterable[Path], folder: Path) -> Dict[str, Path]:
    found: Dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix('').as_posix()
        if name in found:
            raise PreflightError(f'{found[name]} and {path.name} differ only in their suffix: '
                                 'remove or rename one')
        found[name] = path
    return found


def _pattern(images: List[str], masks: List[str]) -> Optional[Tuple[Affix, Affix]]:
    """The text around the common part of the names: the shortest that pairs the most."""
    none = ('', '')
    common = _common_affix(images), _common_affix(masks)
    candidates: List[Tuple[Affix, Affix]] = [(none, none)]
    candidates += [(none, affix) for affix, _ in _learned(images, masks).most_common(3)]
    candidates += [(none, common[1]), common]
    known = set(masks)

    def count(pattern: Tuple[Affix, Affix]) -> int:
        cores = (_core(name, pattern[0]) for name in images)
        return sum(core is not None and _with(core, pattern[1]) in known for core in cores)

    best = max(candidates, key=count)
    return best if count(best) else None


def _learned(images: List[str], masks: List[str]) -> Counter:
    """How often each text surrounds an image's name in a mask's."""
    found: Counter = Counter()
    for image in images[::max(1, len(images) // SAMPLE)]:
        folder, _, stem = image.rpartition('/')
        for mask in masks:
            mask_folder, _, mask_stem = mask.rpartition('/')
            if mask_folder == folder and mask_stem != stem and stem in mask_stem:
                before, _, after = mask_stem.partition(stem)
                if not (before[-1:] + after[:1]).isdigit():  # 'a1' is not part of 'a12'
                    found[before, after] += 1
    return found


def _common_affix(names: List[str]) -> Affix:
    """The text that all stems begin and end with, without parts of the numbers between."""
    stems = [name.rpartition('/')[2] for name in names]
    before = os.path.commonprefix(stems).rstrip(DIGITS)
    after = os.path.commonprefix([stem[len(before):][::-1] for stem in stems])
    return before, after.rstrip(DIGITS)[::-1]


def _core(name: str, affix: Affix) -> Optional[str]:
    folder, slash, stem = name.rpartition('/')
    before, after = affix
    if len(stem) <= len(before) + len(after) or not (
            stem.startswith(before) and stem.endswith(after)):
        return None
    return folder + slash + stem[len(before):len(stem) - len(after)]


def _with(core: str, affix: Affix) -> str:
    folder, slash, stem = core.rpartition('/')
    return folder + slash + affix[0] + stem + affix[1]


def _first(found: Dict[str, Path]) -> str:
    return next(iter(found.values())).name
