"""Read a COCO annotation file strictly, and repair fields that can have one meaning only."""

import gc
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np

from ...utils.fileio import atomic_path
from ...utils.libraries import PreflightError
from .boxes import check_boxes
from .fields import boxes_of, repair_annotations, repair_categories, repair_images
from .file_names import repair_names
from .image_sizes import repair_sizes

__all__ = ['CocoFile', 'read_coco']

LISTS = ('images', 'annotations', 'categories')


@dataclass
class CocoFile:
    """An annotation file with every field that pycocotools and mmdet rely on.

    Attributes:
        path: The file it was read from, which is never changed.
        content: Images, annotations and categories as in COCO's files, after all repairs.
        repairs: What was changed, in words; empty if the file is good as it is.
        notes: What is unusual but not wrong.
    """

    path: Path
    content: Dict[str, Any]
    repairs: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def write(self, target: Path) -> str:
        """Write the repaired content to a new file.

        Returns:
            A line for the user that says so.

        Raises:
            PreflightError: ``target`` is the file that was read.
        """
        if target.resolve() == self.path.resolve():
            raise PreflightError(f'{target}: the repaired annotations would overwrite the original:'
                                 ' choose another folder')
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as path:
            path.write_text(json.dumps(self.content), encoding='utf-8')
        return f'{self.path}: {"; ".join(self.repairs)}: repaired in the copy {target}, in use now'


def read_coco(path: Path, images: Optional[Path] = None, evaluated: bool = False,
              labeled: bool = True, ignore_exif: bool = False) -> CocoFile:
    """Read an annotation file, check all of it, and repair what can have one meaning only.

    Args:
        path: COCO annotations.
        images: Folder to which its ``file_name`` fields are relative; None leaves images unchecked.
        evaluated: Whether a metric is computed on it: boxes that nothing can match are dropped.
        labeled: Whether it must have annotations; test sets need none.
        ignore_exif: Whether images are loaded as stored, whatever their EXIF orientation.

    Raises:
        PreflightError: The file or one of its images is missing or damaged, or an entry is
            ambiguous. The message names the file and the first such entry.
    """
    with _no_garbage_collection():  # takes half of the time, and a file's content has no garbage
        file = CocoFile(path, {})
        try:
            file.content = _read_lists(file, labeled)
            file.repairs += repair_categories(file.content)
            file.repairs += repair_images(file.content)
            file.repairs += repair_annotations(file.content)
            if images is not None:
                file.repairs += repair_names(file.content, images)
                sizes = repair_sizes(file.content, images, ignore_exif)
                file.repairs += sizes.repairs
                file.notes += sizes.notes
            _check_sizes(file.content)
            file.notes += [f'{path}: {note}' for note in check_boxes(file.content)]
            file.repairs += _remove_boxes(file.content, evaluated, labeled)
        except (ValueError, OverflowError, RecursionError) as error:  # the last two: absurd numbers
            raise PreflightError(f'{path}: {error}') from error  # and nesting
    return file


def _read_lists(file: CocoFile, labeled: bool) -> Dict[str, Any]:
    data = file.path.read_bytes()
    encoding = json.detect_encoding(data)
    try:
        content = json.loads(data)
    except ValueError as error:  # includes decoding errors
        raise ValueError(f'not complete JSON ({error}): copy or download it again') from error
    if encoding != 'utf-8':
        file.repairs.append(f'its encoding is {encoding}, but pycocotools reads UTF-8 without a '
                            'byte order mark')
    needed = [key for key in LISTS if labeled or key != 'annotations']
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in needed):
        raise ValueError(f'not a COCO annotation file: it needs the lists {", ".join(needed)}')
    if not content['images']:
        raise ValueError('lists no images')
    for key in LISTS:
        for item in content.setdefault(key, []):
            if type(item) is not dict:
                raise ValueError(f'the list {key} holds {item!r}: expected objects')
    return content


def _check_sizes(content: Dict[str, Any]) -> None:
    for image in content['images']:
        if not (isinstance(image.get('width'), int) and isinstance(image.get('height'), int)):
            raise ValueError(f'{image["file_name"]} has no valid width and height, nor a file '
                             'to take them from')


def _remove_boxes(content: Dict[str, Any], evaluated: bool, labeled: bool) -> List[str]:
    """Drop boxes that break training, or that would count as missed whatever a model predicts."""
    annotations = content['annotations']
    boxes = boxes_of(annotations)
    finite = np.isfinite(boxes).all(axis=1)
    wrong = {'not finite': ~finite}
    if evaluated:
        sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
        size = np.array([sizes[a['image_id']] for a in annotations], float).reshape(-1, 2)
        ends = boxes[:, :2] + boxes[:, 2:]
        empty = finite & (boxes[:, 2:] <= 0).any(axis=1)
        outside = (ends <= 0).any(axis=1) | (boxes[:, :2] >= size).any(axis=1)
        wrong.update({'without width or height': empty,
                      'outside their image': finite & ~empty & outside})
    found = [f'{mask.sum():,} boxes {what} (left out)' for what, mask in wrong.items()
             if mask.any()]
    if found:
        good = ~np.logical_or.reduce(list(wrong.values()))
        if labeled and not good.any():
            raise ValueError(f'holds no boxes that can be used: {", ".join(found)}')
        content['annotations'] = [a for a, keep in zip(annotations, good) if keep]
    return found


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
