"""Match a file's categories to a model's classes by name."""

from collections import Counter
from typing import Sequence

from ...utils.libraries import PreflightError
from ...utils.messages import shorten
from .read import CocoFile

__all__ = ['match_categories']


def match_categories(file: CocoFile, classes: Sequence[str]) -> None:
    """Sort the categories into the order of the classes, by name.

    mmdet labels boxes by the order of the file's categories, not by that of ``classes``. Afterwards
    both orders agree. Classes that the file does not list are added to it, without boxes.

    Args:
        file: Its categories are sorted and completed, and its ``repairs`` say so.
        classes: The names, in the order of the model's outputs.

    Raises:
        PreflightError: Each side has names that the other lacks.
    """
    categories = {category['name']: category for category in file.content['categories']}
    absent = [name for name in classes if name not in categories]
    others = [name for name in categories if name not in set(classes)]
    if absent and (others or not categories):
        raise PreflightError(
            f'{file.path}: its {len(categories)} categories ({shorten(categories)}) do not '
            f'match the {len(classes)} classes of the config: {shorten(absent)} not found. Set '
            'num_classes of the head, and metainfo=dict(classes=(...)) of each data set, to the '
            "file's categories, or give both the same names")
    order = [name for name in categories if name in set(classes)]
    if absent:
        file.repairs.append(f'lists no category {shorten(absent)} (added, without boxes)')
    elif order != list(classes):
        file.repairs.append('its categories are not in the order of the classes (sorted)')
    first = max((category['id'] for category in categories.values()), default=0) + 1
    for number, name in enumerate(absent, start=first):
        categories[name] = dict(id=number, name=name)
    file.content['categories'] = [categories[name] for name in [*classes, *others]]
    if others:
        ids = {categories[name]['id'] for name in others}
        boxes = sum(count for key, count in Counter(
            a['category_id'] for a in file.content['annotations']).items() if key in ids)
        note = (f'{file.path}: {boxes:,} boxes of categories that are not classes of the config '
                f'({shorten(others)}), and are left out')
        if boxes and note not in file.notes:  # from an earlier call
            file.notes.append(note)
