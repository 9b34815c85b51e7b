"""Small annotation files and their images."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
from PIL import Image

Content = Dict[str, Any]


def sample(num_images: int = 2) -> Content:
    """Images of 64x48 pixels with a large 'box' and a small 'disc' each."""
    images = [dict(id=i, file_name=f'{i}.jpg', width=64, height=48)
              for i in range(1, num_images + 1)]
    annotations = []
    for image in images:
        for category, box in ((1, [4, 5, 30, 20]), (2, [40, 30, 12, 11])):
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image['id'], category_id=category, bbox=box,
                area=box[2] * box[3], iscrowd=0))
    categories = [dict(id=1, name='box'), dict(id=2, name='disc')]
    return dict(images=images, annotations=annotations, categories=categories)


def write_sample(folder: Path, change: Optional[Callable[[Content], Any]] = None,
                 name: str = 'ann.json', num_images: int = 2) -> Path:
    """Write ``sample()``, changed in place, and its images into ``folder/img``."""
    (folder / 'img').mkdir(parents=True, exist_ok=True)
    for i in range(1, num_images + 1):
        write_image(folder / 'img' / f'{i}.jpg')
    content = sample(num_images)
    if change is not None:
        change(content)
    (folder / name).write_text(json.dumps(content))
    return folder / name


def write_image(path: Path, size=(64, 48), orientation: int = 1) -> None:
    """A bright bar at the top left of a dark picture, as stored."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[4:12, 4:36] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
