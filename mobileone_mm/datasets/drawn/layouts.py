"""Write drawn scenes in the directory layouts of COCO, Pascal VOC, ADE20K and ImageNet.

Each writer fills an empty directory; ``shapes.make_shapes`` makes that atomic.
"""
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Tuple

import cv2
import numpy as np
from PIL import Image

from .annotations import coco_annotation, label_map
from .scenes import BACKGROUNDS, CLASSES, Scene

#: (split, index within the split, scene); the split is 'train' or 'val'.
Scenes = Iterable[Tuple[str, int, Scene]]


def _save_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f'could not write {path}')


def _save_labels(path: Path, labels: np.ndarray, palette: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())  # turns mode 'L' into 'P' and keeps the indices
    image.save(path)


def voc_palette() -> np.ndarray:
    """Pascal VOC's color map, (256, 3) RGB: the bits of the index, spread over the channels."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8)
    return palette


def write_coco(root: Path, scenes: Scenes, num_train: int) -> None:
    """annotations/instances_{train,val}2017.json, train2017/ and val2017/."""
    categories = [
        dict(id=i + 1, name=name, supercategory='shape') for i, name in enumerate(CLASSES)]
    tables: Dict[str, Dict[str, List[Any]]] = {
        split: dict(images=[], annotations=[]) for split in ('train', 'val')}
    for split, index, scene in scenes:
        image_id = index + 1 + (num_train if split == 'val' else 0)
        file_name = f'{image_id:012d}.jpg'
        _save_jpeg(root / f'{split}2017' / file_name, scene.image)
        height, width = scene.image.shape[:2]
        tables[split]['images'].append(
            dict(id=image_id, file_name=file_name, height=height, width=width, license=1))
        for number, obj in enumerate(scene.objects):
            tables[split]['annotations'].append(
                coco_annotation(obj, image_id * 100 + number, image_id))
    (root / 'annotations').mkdir()
    for split, table in tables.items():
        content = dict(info=dict(description='drawn shapes'),
                       licenses=[dict(id=1, name='generated', url='')],
                       categories=categories, **table)
        (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def write_voc(root: Path, scenes: Scenes, num_train: int) -> None:
    """Pascal VOC 2012 with the augmented part, as mmseg's ``pascal_voc12_aug`` reads it.

    Shape class i has the label i + 1, that is, VOC's i-th object class. The first half of the
    training part plays VOC's own images (train.txt), the rest plays SBD's (aug.txt).
    """
    own = (num_train + 1) // 2
    names: Dict[str, List[str]] = dict(train=[], aug=[], val=[])
    palette = voc_palette()
    labels = range(1, len(CLASSES) + 1)
    for split, index, scene in scenes:
        part = 'aug' if split == 'train' and index >= own else split
        name = f'2012_{index + (num_train if split == "val" else 0):06d}'
        folder = 'SegmentationClassAug' if part == 'aug' else 'SegmentationClass'
        _save_jpeg(root / 'JPEGImages' / f'{name}.jpg', scene.image)
        _save_labels(root / folder / f'{name}.png', label_map(scene, 0, labels, 255), palette)
        names[part].append(name)
    names['trainval'] = names['train'] + names['val']
    sets = root / 'ImageSets' / 'Segmentation'
    sets.mkdir(parents=True)
    for part, members in names.items():
        (sets / f'{part}.txt').write_text(''.join(f'{name}\n' for name in members))


def write_ade(root: Path, scenes: Scenes, num_train: int) -> None:
    """ADEChallengeData2016: 0 is unlabeled, 1 to 150 are the classes.

    Backgrounds take the first labels, shape classes the labels after them.
    """
    first = len(BACKGROUNDS) + 1
    labels = range(first, first + len(CLASSES))
    for split, index, scene in scenes:
        folder = dict(train='training', val='validation')[split]
        name = f'ADE_{split}_{index + 1:08d}'
        _save_jpeg(root / 'images' / folder / f'{name}.jpg', scene.image)
        path = root / 'annotations' / folder / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label_map(scene, scene.background + 1, labels, 0)).save(path)


def write_imagenet(root: Path, scenes: Scenes, num_train: int) -> None:
    """{train,val}/<class>/*.jpg: of each scene a square around its largest object."""
    for split in ('train', 'val'):
        for name in CLASSES:  # a class without images needs its folder too
            (root / split / name).mkdir(parents=True)
    for split, index, scene in scenes:
        objects = [obj for obj in scene.objects if not obj.is_crowd]
        if objects:
            largest = max(objects, key=lambda obj: np.count_nonzero(obj.mask))
            folder = root / split / CLASSES[largest.category]
            _save_jpeg(folder / f'{split}_{index:08d}.jpg', _crop(scene.image, largest.mask))


def _crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A square around the mask, 1.5 times as wide, moved into the image."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    side = min(int(1.5 * max(w, h)), *image.shape[:2])
    left = int(np.clip(x + w / 2 - side / 2, 0, image.shape[1] - side))
    top = int(np.clip(y + h / 2 - side / 2, 0, image.shape[0] - side))
    return image[top:top + side, left:left + side]


class Layout(NamedTuple):
    """A layout's folder below the output directory, and the function that writes it."""

    folder: str
    write: Callable[[Path, Scenes, int], None]


LAYOUTS = dict(
    coco=Layout('coco', write_coco),
    voc=Layout('VOCdevkit/VOC2012', write_voc),
    ade=Layout('ade/ADEChallengeData2016', write_ade),
    imagenet=Layout('imagenet', write_imagenet))
