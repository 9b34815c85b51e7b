"""A user's annotation file, checked and counted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Sequence, Union

import numpy as np

from ...utils.libraries import PreflightError
from ..coco_files import CocoFile, Counts, count, match_categories, read_coco
from ..preflight.coco import require_images

__all__ = ['CocoSplit', 'read_split']

MIN_SIZE = 32  # minimum image size in the base configs, in pixels


@dataclass
class CocoSplit:
    """An annotation file and what mmdet will use from it.

    Attributes:
        file: The file, repaired.
        images: The folder that its file names are relative to.
        keep_negatives: Whether images without boxes are trained on.
    """

    file: CocoFile
    images: Path
    keep_negatives: bool = False

    @property
    def path(self) -> Path:
        """The annotation file."""
        return self.file.path

    @property
    def classes(self) -> Sequence[str]:
        """Names of the categories, in the file's order."""
        return tuple(category['name'] for category in self.file.content['categories'])

    @property
    def boxes(self) -> Dict[str, int]:
        """Number of boxes to learn or find, by class name, over all images."""
        return count(self.file, self.classes).boxes

    def counts(self, classes: Sequence[str], training: bool) -> Counts:
        """What mmdet trains on, or evaluates.

        Args:
            classes: Names of the classes.
            training: Whether it is for training, which leaves out images.
        """
        filter_cfg = dict(filter_empty_gt=not self.keep_negatives, min_size=MIN_SIZE)
        return count(self.file, classes, filter_cfg if training else None)

    def box_sizes(self, input_size: int) -> np.ndarray:
        """Square roots of the boxes' areas in pixels, (N, ), once images are resized."""
        sizes = {image['id']: image['width'] * image['height']
                 for image in self.file.content['images']}
        areas = [a['bbox'][2] * a['bbox'][3] / sizes[a['image_id']]
                 for a in self.file.content['annotations'] if not a['iscrowd']]
        return input_size * np.sqrt(np.clip(areas, 0, None))

    def __str__(self) -> str:
        return f'{self.path}: {count(self.file, self.classes)}'


def read_split(path: Union[str, Path], images: Union[str, Path], like: Optional[CocoSplit] = None,
               keep_negatives: bool = False) -> CocoSplit:
    """Read an annotation file, check all of it, and repair what can have one meaning only.

    Args:
        path: COCO annotations. The file stays as it is.
        images: The folder that its ``file_name`` fields are relative to.
        like: The training data, if this is for evaluation: categories are matched by name.
        keep_negatives: Whether to train on images without boxes too.

    Raises:
        PreflightError: The file, the folder or an image is missing or damaged, an entry is
            ambiguous, or no boxes are left.
    """
    path, images = Path(path).absolute(), Path(images).absolute()
    for kind, exists in ((path, path.is_file()), (images, images.is_dir())):
        if not exists:
            what = 'file of annotations' if kind is path else 'folder of images'
            raise PreflightError(f'{kind}: no such {what}')
    file = read_coco(path, images, evaluated=like is not None)
    require_images(file, images)
    if like is not None:
        match_categories(file, like.classes)
    split = CocoSplit(file, images, keep_negatives)
    classes = split.classes if like is None else like.classes
    split.counts(classes, like is None).require(path, 'evaluate' if like else 'train on')
    return split
