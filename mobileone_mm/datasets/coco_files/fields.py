"""Types and ids in a COCO file: repair what exporters write but pycocotools cannot read."""

from collections import Counter
from itertools import chain
from math import inf
from typing import Any, Dict, Iterator, List

import numpy as np

__all__ = ['boxes_of', 'repair_annotations', 'repair_categories', 'repair_images']

Items = List[Dict[str, Any]]
EXPECTED = 'expected [x, y, width, height] in pixels'
NOT_CROWD = ('none', 'null', 'nan', '0', '0.0', 'false', 'no', '')  # pandas writes NaN for nothing


def boxes_of(annotations: Items) -> np.ndarray:
    """All boxes as (N, 4), float64: x, y, width, height."""
    return np.array([a['bbox'] for a in annotations], np.float64).reshape(-1, 4)


def repair_categories(content: Dict[str, Any]) -> List[str]:
    """Make the names of categories strings and their ids integers, in the annotations as well.

    Raises:
        ValueError: A category has no name or id, or is listed twice.
    """
    categories = content['categories']
    repairs = []
    for category in categories:
        _require(category, 'name', 'a category')
        if isinstance(category['name'], (int, float)):
            category['name'] = str(category['name'])
            repairs = ['names of categories are numbers']
        if not isinstance(category['name'], str) or not category['name'].strip():
            raise ValueError(f'a category has the name {category["name"]!r}: expected a string')
    for name, count in Counter(category['name'] for category in categories).items():
        if count > 1:
            raise ValueError(f'a category is listed twice: {name}')
    return repairs + _unify_ids(categories, content['annotations'], 'category_id', 'categories')


def repair_images(content: Dict[str, Any]) -> List[str]:
    """Check the file names, and make the ids of images integers, in the annotations as well.

    Raises:
        ValueError: An image has no file name or id, or several images have the same id.
    """
    repairs = []
    for image in content['images']:
        _require(image, 'file_name', 'an image')
        if not isinstance(image['file_name'], str) or not image['file_name']:
            raise ValueError(f'an image has the file_name {image["file_name"]!r}: expected a path')
        _require(image, 'id', f'the image {image["file_name"]}')
        _canonical(image['id'])
    files: Dict[Any, str] = {}
    for image in content['images']:
        key = image['id']
        if files.setdefault(key, image['file_name']) != image['file_name']:
            raise ValueError(
                f'several images have the id {key!r}, for example {files[key]} and '
                f'{image["file_name"]}: it is unclear which boxes belong to which. Export again, '
                'or merge files with a tool that renumbers the images')
    if len(files) < len(content['images']):
        repairs.append(f'{len(content["images"]) - len(files):,} images are listed twice')
        content['images'] = list({image['id']: image for image in content['images']}.values())
    return repairs + _unify_ids(content['images'], content['annotations'], 'image_id', 'images')


def repair_annotations(content: Dict[str, Any]) -> List[str]:
    """Repair numbers, ``iscrowd``, ``area`` and ids, which must be unique and above 0.

    Raises:
        ValueError: A box is not four numbers.
    """
    annotations = content['annotations']
    return [*_repair_boxes(annotations), *_repair_crowds(annotations), *_repair_areas(annotations),
            *_repair_annotation_ids(annotations)]


def _repair_boxes(annotations: Items) -> Iterator[str]:
    boxes: List[Any] = [a.get('bbox') for a in annotations]
    for annotation, box in zip(annotations, boxes):
        if type(box) is not list or len(box) != 4:
            _require(annotation, 'bbox', f'the annotation with id {annotation.get("id")!r}')
            raise ValueError(f'the annotation with id {annotation.get("id")!r} has bbox {box!r}: '
                             f'{EXPECTED}')
    kinds = set(map(type, chain.from_iterable(boxes)))
    if kinds <= {int, float}:
        return
    for annotation in annotations:
        try:
            annotation['bbox'] = [_number(value) for value in annotation['bbox']]
        except (TypeError, ValueError):
            raise ValueError(f'the annotation with id {annotation.get("id")!r} has bbox '
                             f'{annotation["bbox"]!r}: {EXPECTED}') from None
    yield 'coordinates are strings' if str in kinds else 'coordinates are null'


def _number(value: Any) -> float:
    """A number, or one in a string; NaN for null, which some exporters write instead."""
    if isinstance(value, bool):
        raise TypeError
    return value if isinstance(value, (int, float)) else float('nan' if value is None else value)


def _repair_crowds(annotations: Items) -> Iterator[str]:
    crowds = [a.get('iscrowd') for a in annotations]
    odd = [value for value in crowds if type(value) is not int or value not in (0, 1)]
    if odd:
        for annotation, value in zip(annotations, crowds):
            annotation['iscrowd'] = int(str(value).lower() not in NOT_CROWD)
        yield f'iscrowd is {"missing" if None in odd else repr(odd[0])} in {len(odd):,} annotations'


def _repair_areas(annotations: Items) -> Iterator[str]:
    """Fill in missing areas from the boxes: without an outline, the box is all there is."""
    areas: List[Any] = [a.get('area') for a in annotations]
    if set(map(type, areas)) <= {int, float} and all(0 < area < inf for area in areas):
        return
    count = 0
    for annotation, area in zip(annotations, areas):
        try:
            area = _number(area)
        except (TypeError, ValueError):
            area = float('nan')
        width, height = annotation['bbox'][2:]
        if not 0 < area < inf and width > 0 and height > 0:
            area, count = width * height, count + 1
        annotation['area'] = area if 0 < area < inf else 0
    if count:
        yield (f'the area of {count:,} annotations is missing or not a positive number (taken: '
               'width times height)')
    elif any(type(area) is str for area in areas):
        yield 'areas are strings'


def _repair_annotation_ids(annotations: Items) -> Iterator[str]:
    ids: List[Any] = [a.get('id') for a in annotations]
    if set(map(type, ids)) <= {int}:
        why = ('0 or less, which pycocotools treats as no match' if min(ids, default=1) < 1 else
               'repeated' if len(set(ids)) < len(ids) else '')
    else:
        why = 'missing' if None in ids else 'not integers'
    if why:
        for number, annotation in enumerate(annotations, start=1):
            annotation['id'] = number
        yield f'ids of annotations are {why} (renumbered)'


def _unify_ids(items: Items, annotations: Items, key: str, what: str) -> List[str]:
    """Make the ids of images or categories integers, in the items and where they are named."""
    for item in items:
        _require(item, 'id', f'{item.get("file_name") or item.get("name")} of the {what}')
    for annotation in annotations:
        if key not in annotation:
            raise ValueError(f'the annotation with id {annotation.get("id")!r} lacks {key}')
    ids, named = [item['id'] for item in items], [a[key] for a in annotations]
    mixed = bool(set(map(type, chain(ids, named))) - {int})
    if mixed:
        ids, named = [_canonical(i) for i in ids], [_canonical(i) for i in named]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f'several of the {what} have the id {twice}')
    unknown = set(named) - set(ids)
    if unknown:
        index = next(i for i, value in enumerate(named) if value in unknown)
        raise ValueError(f'the annotation with id {annotations[index].get("id")!r} has {key} '
                         f'{named[index]}, which is not among the {what}')
    if not all(type(i) is int for i in ids):  # words
        new = {old: number for number, old in enumerate(ids, start=1)}
        ids, named = list(map(new.__getitem__, ids)), list(map(new.__getitem__, named))
    if not mixed:
        return []
    for item, value in zip(items, ids):
        item['id'] = value
    for annotation, value in zip(annotations, named):
        annotation[key] = value
    return [f'ids of {what} are not integers throughout']


def _canonical(value: Any) -> Any:
    """1 for 1, 1.0, '1' and '001'; words stay as they are.

    Raises:
        ValueError: It is neither an integer nor a word.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return int(value) if value.strip().lstrip('-').isdecimal() else value
    if type(value) is not int:
        raise ValueError(f'an id is {value!r}: expected an integer')
    return value


def _require(item: Dict[str, Any], key: str, who: str) -> None:
    if key not in item:
        raise ValueError(f'{who} lacks {key}')
