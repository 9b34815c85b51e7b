"""Count the images and boxes that mmdet will use, by mmdet's own rules."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

import numpy as np

from ...utils.libraries import PreflightError
from .fields import boxes_of
from .read import CocoFile

__all__ = ['Counts', 'count']


@dataclass(frozen=True)
class Counts:
    """What mmdet keeps from a file, and what it leaves out.

    Attributes:
        listed: Images in the file.
        images: Images in use.
        boxes: Boxes to learn or find, by class.
        images_out: Images left out, by reason.
        boxes_out: Boxes left out, by reason.
        fractions: Whether the boxes left out look like fractions of the image.
    """

    listed: int
    images: int
    boxes: Dict[str, int]
    images_out: Dict[str, int]
    boxes_out: Dict[str, int]
    fractions: bool = False

    @property
    def total(self) -> int:
        """Boxes in use."""
        return sum(self.boxes.values())

    def __str__(self) -> str:
        boxes = ', '.join(f'{name} {number:,}' for name, number in self.boxes.items())
        return f'{self.images:,} images; boxes: {boxes}'

    def left_out(self) -> str:
        """What is left out and why, in words; empty if nothing is."""
        out = []
        for number, kind, reasons in ((self.listed, 'images', self.images_out),
                                      (self.total + sum(self.boxes_out.values()), 'boxes',
                                       self.boxes_out)):
            if reasons:
                why = ', '.join(f'{count:,} {reason}' for reason, count in reasons.items())
                out.append(f'{sum(reasons.values()):,} of {number:,} {kind} ({why})')
        return ' and '.join(out)

    def require(self, name: Any, what: str = 'train on') -> None:
        """Raise if no box is in use.

        Args:
            name: Name of the file, for the message.
            what: What the boxes are for, for the message.

        Raises:
            PreflightError: No box is in use.
        """
        if self.total:
            return
        out = self.left_out()
        raise PreflightError(f'{name}: holds no boxes to {what}' + (
            f': mmdet leaves out {out}' if out else '') + (
            '. Its numbers are fractions of the image: COCO has [x, y, width, height] in pixels'
            if self.fractions else ''))


def count(file: CocoFile, classes: Sequence[str],
          filter_cfg: Optional[Dict[str, Any]] = None) -> Counts:
    """Count what ``mmdet.CocoDataset`` will use from a file.

    Args:
        file: The file, read and repaired.
        classes: Names of the classes; boxes of other categories are left out.
        filter_cfg: The data set's ``filter_empty_gt`` and ``min_size``; None in test mode.
    """
    images, annotations = file.content['images'], file.content['annotations']
    index = {image['id']: i for i, image in enumerate(images)}
    where = np.array([index[a['image_id']] for a in annotations], np.int64)
    size = np.array([(image['width'], image['height']) for image in images], np.float64)
    labels = {category['id']: list(classes).index(category['name'])
              for category in file.content['categories'] if category['name'] in set(classes)}
    label = np.array([labels.get(a['category_id'], -1) for a in annotations], np.int64)
    kept, images_out = _keep_images(size, where[label >= 0], filter_cfg or {})
    boxes = boxes_of(annotations)
    reason = _reasons(annotations, boxes, size[where], label, kept[where])
    good = reason == len(REASONS)
    number = np.bincount(label[good], minlength=len(classes))
    out = np.bincount(reason[~good], minlength=len(REASONS))
    with np.errstate(invalid='ignore'):
        fractions = bool(boxes.any() and not good.any() and (np.abs(boxes) <= 1).all())
    return Counts(len(images), int(kept.sum()),
                  {name: int(n) for name, n in zip(classes, number)}, images_out,
                  {name: int(n) for name, n in zip(REASONS, out) if n}, fractions)


# In mmdet's order; the last two are its sampler's and its filter's.
REASONS = ('marked ignore', 'not finite', 'outside their image', 'of area 0 or less',
           'under 1 pixel wide or high', 'of other categories', 'marked iscrowd',
           'on images left out')


def _reasons(annotations: Sequence[Dict[str, Any]], boxes: np.ndarray, size: np.ndarray,
             label: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Index of the first reason in REASONS to leave a box out; ``len(REASONS)`` to keep it."""
    with np.errstate(invalid='ignore'):
        inner = np.minimum(boxes[:, :2] + boxes[:, 2:], size) - np.maximum(boxes[:, :2], 0)
        inner = inner.clip(min=0)
        masks = [np.array([bool(a.get('ignore')) for a in annotations], bool),
                 ~np.isfinite(boxes).all(axis=1),
                 inner[:, 0] * inner[:, 1] == 0,
                 np.array([a['area'] <= 0 for a in annotations], bool),
                 (boxes[:, 2:] < 1).any(axis=1),
                 label < 0,
                 np.array([bool(a['iscrowd']) for a in annotations], bool),
                 ~kept]
    return np.vstack([*masks, np.ones(len(boxes), bool)]).argmax(axis=0)


def _keep_images(size: np.ndarray, where: np.ndarray, filter_cfg: Dict[str, Any]) -> Any:
    """A mask of the images in use, and how many are left out for each reason."""
    out = {}
    kept = np.ones(len(size), bool)
    if filter_cfg.get('filter_empty_gt', False):
        kept[:] = False
        kept[where] = True
        out['without boxes'] = int((~kept).sum())
    least = filter_cfg.get('min_size', 0)
    small = kept & (size.min(axis=1) < least)
    out[f'smaller than {least} pixels'] = int(small.sum())
    return kept & ~small, {why: number for why, number in out.items() if number}
