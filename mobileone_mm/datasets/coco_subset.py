"""A few easy images of a COCO annotation file, for short experiments."""

import json
from pathlib import Path
from typing import Any, Dict, List, Union

from ..utils.fileio import atomic_path

__all__ = ['SubsetError', 'write_easy_subset']


class SubsetError(ValueError):
    """The annotation file does not exist, or has too few suitable images."""


def write_easy_subset(source: Union[str, Path], target: Union[str, Path], num_images: int = 8,
                      input_size: int = 320, min_side: float = 32., max_objects: int = 5) -> None:
    """Write the annotations of the first images, by id, that have few objects and no tiny ones.

    The categories stay as they are, so that labels and metrics mean the same.

    Args:
        source: COCO annotations, ``instances_*.json``.
        target: The file to write; its directory is created.
        num_images: How many images.
        input_size: Side, in pixels, of the square to which the images will be resized.
        min_side: Minimum width and height of every object, in pixels after resizing.
        max_objects: Maximum number of objects in an image, which has at least one and no crowd.

    Raises:
        SubsetError: ``source`` is missing, or has too few such images.
    """
    if not Path(source).is_file():
        raise SubsetError(f'{source} does not exist: --data-root must name a COCO directory')
    data = json.loads(Path(source).read_text())
    objects: Dict[int, List[Dict[str, Any]]] = {image['id']: [] for image in data['images']}
    for annotation in data['annotations']:
        objects[annotation['image_id']].append(annotation)

    def is_easy(image: Dict[str, Any]) -> bool:
        here = objects[image['id']]
        return 1 <= len(here) <= max_objects and all(
            not item['iscrowd']
            and item['bbox'][2] * input_size / image['width'] >= min_side
            and item['bbox'][3] * input_size / image['height'] >= min_side for item in here)

    images = [image for image in sorted(data['images'], key=lambda i: i['id']) if is_easy(image)]
    if len(images) < num_images:
        raise SubsetError(f'{source} has {len(images)} images with 1 to {max_objects} objects of '
                          f'at least {min_side:g} pixels, {num_images} are needed')
    images = images[:num_images]
    subset = dict(data, images=images,
                  annotations=[item for image in images for item in objects[image['id']]])
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as path:
        path.write_text(json.dumps(subset))
