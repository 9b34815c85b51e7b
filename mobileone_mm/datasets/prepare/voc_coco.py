"""Write COCO's instances as label maps of Pascal VOC's classes: cvnets' ``use_coco_data``.

The maps go to ``coco/voc_masks/train2017/*.png``, their names to ``coco/voc_masks/train2017.txt``.
They follow cvnets' ``coco_segmentation.py``: every instance of a class that VOC has, crowds
included; where instances overlap, the first in the file wins. cvnets did not publish its list of
training images. Here, maps with at least ``MIN_PIXELS`` labeled pixels are kept, the threshold
of torchvision's segmentation reference.
"""

from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import rich.progress
from PIL import Image

from ...utils.fileio import atomic_path
from ..drawn.layouts import voc_palette

__all__ = ['CATEGORIES', 'MIN_PIXELS', 'convert_coco', 'label_map', 'wrong_masks']

# COCO's category ids in the order of VOC's classes 1 to 20.
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
MIN_PIXELS = 1000
ANNOTATIONS = 'coco/annotations/instances_train2017.json'
MASKS = 'coco/voc_masks/train2017'


def convert_coco(root: Path) -> None:
    """Write the label maps and their list; existing files are kept.

    Args:
        root: The folder that holds ``coco``.

    Raises:
        ModuleNotFoundError: pycocotools, which reads COCO's annotations, is missing.
        ValueError: The annotation file is not one of COCO's.
    """
    coco = _read(root / ANNOTATIONS)
    palette = voc_palette().tobytes()
    folder = root / MASKS
    folder.mkdir(parents=True, exist_ok=True)
    names: List[str] = []
    ids = sorted(set().union(*(coco.catToImgs[category] for category in CATEGORIES)))
    for image in rich.progress.track(coco.loadImgs(ids), 'COCO to VOC label maps'):
        name = Path(image['file_name']).stem
        path = folder / f'{name}.png'
        if not path.exists():
            labels = label_map(coco.imgToAnns[image['id']], image['height'], image['width'])
            if np.count_nonzero(labels) < MIN_PIXELS:
                continue
            picture = Image.fromarray(labels)
            picture.putpalette(palette)
            with atomic_path(path) as temporary:
                picture.save(temporary, 'PNG')
        names.append(name)
    with atomic_path(folder.with_suffix('.txt')) as temporary:
        temporary.write_text(''.join(f'{name}\n' for name in names))


def label_map(instances: Sequence[Dict[str, Any]], height: int, width: int) -> np.ndarray:
    """The VOC classes, 0 (background) to 20, of one image: (H, W) uint8.

    Args:
        instances: COCO's annotations of the image, in the file's order.
        height: H.
        width: W.
    """
    from pycocotools import mask
    labels = np.zeros((height, width), np.uint8)
    for instance in instances:
        if instance['category_id'] in CATEGORIES:
            pieces = mask.frPyObjects(instance['segmentation'], height, width)
            covered = mask.decode(pieces if isinstance(pieces, list) else [pieces]).any(axis=2)
            label = 1 + CATEGORIES.index(instance['category_id'])
            labels[covered & (labels == 0)] = label
    return labels


def wrong_masks(root: Path) -> str:
    """What is missing, in words; empty if the list exists and each of its names has a map."""
    folder = root / MASKS
    names = folder.with_suffix('.txt')
    if not names.is_file():
        return f'{names} is missing'
    listed, found = set(names.read_text().split()), {path.stem for path in folder.glob('*.png')}
    if not listed:
        return f'{names} lists no image'
    return '' if listed == found else (
        f'{len(found):,} label maps in {folder}, of which {len(listed & found):,} are among the '
        f'{len(listed):,} of {names.name}')


def _read(path: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('reading COCO annotations needs pycocotools: pip install '
                                  'pycocotools', name='pycocotools') from error
    try:
        coco = COCO(str(path))
        missing = [i for i in CATEGORIES if i not in coco.cats]
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is not a COCO annotation file ({error!r})') from error
    if missing:
        raise ValueError(f'{path} lacks the categories {missing} of COCO 2017')
    return coco
