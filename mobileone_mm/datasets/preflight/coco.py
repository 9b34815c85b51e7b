"""Check a COCO annotation file against its images and the config's classes."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List

from .source import Source


def coco_problems(source: Source) -> List[str]:
    """What is wrong with the data; empty where nothing is.

    Takes the time of reading the JSON file once: seconds for all of COCO.
    """
    if source.ann_file is None:
        return []
    try:
        content = read_annotations(source.ann_file)
    except ValueError as error:
        return [str(error)]
    if _drops_empty_images(source) and not content['annotations']:
        return [f'{source.ann_file}: holds no annotations, and training leaves out images '
                'without any']
    problems = _class_problems(source, content)
    return problems + (_image_problems(source, content) if source.images else [])


def _drops_empty_images(source: Source) -> bool:
    return bool((source.option('filter_cfg') or {}).get('filter_empty_gt')
                and not source.option('test_mode'))


def read_annotations(path: Path) -> Dict[str, Any]:
    """Read a COCO annotation file.

    Raises:
        ValueError: It is damaged, lacks a list that COCO's files have, or lists no images.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'{path}: not a whole JSON file ({error}): copy or download it '
                         'again') from error
    keys = ['images', 'annotations', 'categories']
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        raise ValueError(f'{path}: not a COCO annotation file: it needs the lists '
                         f'{", ".join(keys)}')
    if not content['images']:
        raise ValueError(f'{path}: lists no images')
    return content


def _class_problems(source: Source, content: Dict[str, Any]) -> List[str]:
    """Labels take the file's order in mmdet, which skips names that the file has not."""
    names = [category['name'] for category in content['categories']]
    if source.classes is None:
        return []
    known = set(names)
    absent = [name for name in source.classes if name not in known]
    if absent:
        return [f'{source.ann_file}: its {len(names)} categories ({_shorten(names)}) do not match '
                f'the {len(source.classes)} classes of the config: {_shorten(absent)} not found. '
                'Set num_classes of the head, and metainfo=dict(classes=(...)) of each data set, '
                "to the file's categories"]
    wanted = set(source.classes)
    order = [name for name in names if name in wanted]
    if order != list(source.classes):
        return [f'{source.ann_file}: its categories come in another order than the classes of the '
                'config, and mmdet would mix up their names: set metainfo=dict(classes='
                f'({_shorten(order)}))']
    return []


def _image_problems(source: Source, content: Dict[str, Any]) -> List[str]:
    names = [image['file_name'] for image in content['images']]
    folders = {os.path.dirname(name) for name in names}
    sizes: Dict[str, int] = {}
    for folder in folders:
        if (source.images / folder).is_dir():
            with os.scandir(source.images / folder) as entries:
                sizes.update((os.path.join(folder, e.name), e.stat().st_size) for e in entries)
    missing = [name for name in names if name not in sizes]
    if missing:
        return [f'{source.ann_file}: {len(missing):,} of its {len(names):,} images are not in '
                f'{source.images}, for example {missing[0]}']
    empty = [name for name in names if not sizes[name]]
    if empty:
        return [f'{source.images / empty[0]}: an empty file ({len(empty):,} such): copy it again']
    return []


def _shorten(names: List[str], most: int = 5) -> str:
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')
