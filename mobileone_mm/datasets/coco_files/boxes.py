"""Whether boxes lie within their images, and whether any are listed twice."""

from typing import Any, Dict, List

import numpy as np

from .fields import EXPECTED, boxes_of
from .image_sizes import SLACK

__all__ = ['check_boxes']

MANY = .25  # share of boxes beyond the border from which corners are the likelier meaning


def check_boxes(content: Dict[str, Any]) -> List[str]:
    """Look for boxes that are not in COCO's format, and for repeated ones.

    Args:
        content: The file's content; all fields are repaired.

    Returns:
        What is unusual but not wrong.

    Raises:
        ValueError: The boxes are corners, ``[x1, y1, x2, y2]``.
    """
    annotations = content['annotations']
    boxes = boxes_of(annotations)
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    size = np.array([sizes[a['image_id']] for a in annotations], float).reshape(-1, 2) + SLACK
    with np.errstate(invalid='ignore'):
        beyond = (boxes[:, :2] < -SLACK).any(1) | (boxes[:, :2] + boxes[:, 2:] > size).any(1)
        beyond &= np.isfinite(boxes).all(1)  # the others are left out
        corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, :2] >= 0) & (boxes[:, 2:] <= size)
    notes = []
    if beyond.any():
        first = annotations[int(beyond.argmax())]
        what = f'the annotation with id {first["id"]!r} has bbox {first["bbox"]!r}'
        if beyond.mean() >= MANY and corners.all():
            raise ValueError(f'{beyond.sum():,} of {len(boxes):,} boxes reach beyond their images, '
                             f'and all would fit as corners [x1, y1, x2, y2]: {what}, {EXPECTED}. '
                             'Export again')
        notes.append(f'{beyond.sum():,} of {len(boxes):,} boxes reach beyond their images, where '
                     f'nothing can be found: {what}')
    once = len({(a['image_id'], a['category_id'], *a['bbox']) for a in annotations})
    if once < len(boxes):
        notes.append(f'{len(boxes) - once:,} of {len(boxes):,} boxes are listed twice (same image, '
                     'category and numbers): the metric counts the second as missed')
    files = len({image['file_name'] for image in content['images']})
    if files < len(content['images']):
        notes.append(f'{len(content["images"]) - files:,} images share a file with another: an '
                     'object that only one of them lists counts as a wrong prediction in the other')
    return notes
