"""Check a COCO annotation file against its images and the config's classes; repair a copy."""

import hashlib
import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from ...utils.libraries import PreflightError
from ..coco_files import CocoFile, count, match_categories, read_coco
from .source import Source

__all__ = ['CocoCheck', 'check_coco', 'require_images']


class CocoCheck(NamedTuple):
    """The result of a check: the file to use, notes, and the number of images in use."""

    ann_file: Path
    notes: List[str]
    images: int


def check_coco(source: Source, loader: str, labeled: bool, folder: Optional[Path]) -> CocoCheck:
    """Check the data of one data set, in seconds for all of COCO.

    Args:
        source: The data set.
        loader: 'train', 'val' or 'test'.
        labeled: Whether annotations are needed, for training or for a metric.
        folder: Where a repaired copy of the annotations goes, if one is needed.

    Raises:
        PreflightError: The data cannot be used, or a repair is needed and there is no ``folder``.
    """
    path = source.ann_file
    if path is None:
        raise ValueError('the data set has no annotation file')
    file = read_coco(path, source.images, evaluated=loader != 'train', labeled=labeled,
                     ignore_exif=source.ignores_exif)
    classes = source.classes or [category['name'] for category in file.content['categories']]
    match_categories(file, classes)
    filter_cfg = None if source.option('test_mode') else source.option('filter_cfg')
    counts = count(file, classes, filter_cfg)
    if labeled:
        counts.require(path, 'train on' if loader == 'train' else 'evaluate')
    if source.images:
        require_images(file, source.images)
    notes = [*file.notes]
    if file.repairs:
        if folder is None:
            raise PreflightError(f'{path}: {"; ".join(file.repairs)}: to be repaired '
                                 'in a copy, for which the config needs a work_dir')
        # files of the same name may occur in one config
        mark = hashlib.sha256(str(path.resolve()).encode('utf-8', 'replace')).hexdigest()[:8]
        path = folder / f'{path.stem}.{loader}.{mark}.repaired.json'
        notes.append(file.write(path))
        source.replace_annotations(path)
    left_out = counts.left_out()
    if loader == 'train' and left_out:
        notes.append(f'{path}: training leaves out {left_out}')
    return CocoCheck(path, notes, counts.images)


def require_images(file: CocoFile, folder: Path) -> None:
    """Check that each image exists and is not empty.

    Raises:
        PreflightError: An image is missing or empty.
    """
    names = [image['file_name'] for image in file.content['images']]
    sizes: Dict[str, int] = {}
    for inner in {os.path.dirname(name) for name in names}:
        if (folder / inner).is_dir():
            with os.scandir(folder / inner) as entries:
                sizes.update((os.path.join(inner, e.name), e.stat().st_size) for e in entries
                             if e.is_file())
    missing = [name for name in names if name not in sizes]
    if missing:
        raise PreflightError(f'{file.path}: {len(missing):,} of its {len(names):,} images are not '
                             f'in {folder}, for example {missing[0]}')
    empty = [name for name in names if not sizes[name]]
    if empty:
        raise PreflightError(f'{folder / empty[0]}: an empty file ({len(empty):,} such): copy it '
                             'again')
