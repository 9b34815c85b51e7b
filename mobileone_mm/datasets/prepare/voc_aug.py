"""Convert SBD's annotations (Hariharan et al., ICCV 2011) to Pascal VOC's label images.

This writes ``SegmentationClassAug/*.png`` and the lists ``aug.txt`` (SBD's images that are in
neither VOC's training nor its validation list) and ``trainaug.txt`` (these and VOC's own), with
the names that mmsegmentation uses.
"""

import os
from pathlib import Path
from typing import List, Set

import numpy as np
import rich.progress
from PIL import Image

from ...utils.fileio import atomic_path

NUM_CLASSES = 21
IGNORE = 255


def convert_sbd(root: Path) -> None:
    """Convert ``VOCdevkit/VOCaug`` into ``VOCdevkit/VOC2012``; existing files are kept.

    Args:
        root: The folder of ``VOCdevkit``.

    Raises:
        ModuleNotFoundError: scipy, which reads .mat files, is missing.
        ValueError: A .mat file is not one of SBD's.
    """
    voc, sbd = root / 'VOCdevkit/VOC2012', root / 'VOCdevkit/VOCaug/dataset'
    folder = voc / 'SegmentationClassAug'
    folder.mkdir(exist_ok=True)
    palette = Image.open(next((voc / 'SegmentationClass').glob('*.png'))).getpalette() or []
    names = sorted(path.stem for path in (sbd / 'cls').glob('*.mat'))
    done = {path.stem for path in folder.glob('*.png')}
    for name in rich.progress.track([n for n in names if n not in done], 'SBD to PNG'):
        image = Image.fromarray(read_sbd_labels(sbd / 'cls' / f'{name}.mat'))
        image.putpalette(palette)
        temporary = folder / f'{name}.tmp'
        image.save(temporary, 'PNG')
        os.replace(temporary, folder / f'{name}.png')

    lists = voc / 'ImageSets/Segmentation'
    train, val = _read(lists / 'train.txt'), _read(lists / 'val.txt')
    extra = (_read(sbd / 'train.txt') | _read(sbd / 'val.txt')) - train - val
    _write(lists / 'aug.txt', sorted(extra))
    _write(lists / 'trainaug.txt', sorted(train | extra))


def read_sbd_labels(path: Path) -> np.ndarray:
    """The class map of one .mat file: uint8, (H, W), 0 to 20 in VOC's order.

    Raises:
        ModuleNotFoundError: scipy is missing.
        ValueError: It is not one of SBD's files.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('reading SBD annotations needs scipy: pip install scipy',
                                  name='scipy') from error
    try:
        labels = np.asarray(loadmat(str(path))['GTcls'][0]['Segmentation'][0])
    except Exception as error:  # scipy raises a dozen error types for a damaged file
        raise ValueError(f'{path} is not an SBD annotation ({error!r}): unpack '
                         'benchmark.tgz again') from error
    if labels.ndim != 2 or not np.isin(labels, [*range(NUM_CLASSES), IGNORE]).all():
        raise ValueError(f'{path} must hold a 2-D map of classes 0 to {NUM_CLASSES - 1}, got '
                         f'shape {labels.shape}, values up to {labels.max()}')
    return labels.astype(np.uint8)


def _read(path: Path) -> Set[str]:
    return set(path.read_text().split())


def _write(path: Path, names: List[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(''.join(f'{name}\n' for name in names))
