"""Names of classes, and the values or colors that mark them in masks."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple, Union

from ...utils.libraries import PreflightError

__all__ = ['IGNORE_INDEX', 'MAX_CLASSES', 'ClassTable', 'display_palette', 'parse_value',
           'read_classes']

IGNORE_INDEX = 255  # mmsegmentation's label of pixels left out of the loss and the metrics
MAX_CLASSES = 255  # labels 0 to 254


@dataclass(frozen=True)
class ClassTable:
    """The classes as the user describes them.

    Attributes:
        names: Names, in the order of the labels.
        values: The gray value, or the color as 0xRRGGBB, of each class in masks; None if masks
            hold the labels themselves.
        kind: ``'label'``, ``'gray'`` or ``'color'``.
    """

    names: Tuple[str, ...]
    values: Optional[Tuple[int, ...]] = None
    kind: str = 'label'


def read_classes(path: Union[str, Path]) -> ClassTable:
    """Read class names, one per line, or a JSON object from names to values or colors.

    ``{"background": "#000000", "road": [128, 64, 128]}`` lists colors,
    ``{"background": 0, "road": 128}`` gray values, and ``["background", "road"]`` names only.

    Raises:
        PreflightError: The file is missing or holds something else, a name or a value appears
            twice, or there are more classes than 8-bit labels.
    """
    path = Path(path)
    if not path.is_file():
        raise PreflightError(f'--classes {path}: no such file')
    try:
        text = path.read_text(encoding='utf-8-sig')
        lines = re.split(r'\r\n|\r|\n', text)
        content = json.loads(text) if path.suffix.lower() == '.json' else lines
    except ValueError as error:
        raise PreflightError(f'--classes {path}: cannot be read ({error})') from error
    if isinstance(content, list):
        names = [name.strip() if isinstance(name, str) else name for name in content]
        table = ClassTable(tuple(name for name in names if name != ''))
    elif isinstance(content, dict):
        table = _with_values(content, path)
    else:
        raise PreflightError(f'--classes {path}: expected a list of names, or an object from names '
                             'to colors or gray values')
    _check(table, path)
    return table


def parse_value(value: Any) -> Tuple[int, str]:
    """A gray value or a color, ``'#rrggbb'``, ``'r,g,b'`` or three numbers, and its kind.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch('#[0-9a-fA-F]{6}', text):
            return int(text[1:], 16), 'color'
        parts: Any = text.split(',')
        if all(re.fullmatch(r'\s*\d+\s*', part) for part in parts):
            value = int(text) if len(parts) == 1 else [int(part) for part in parts]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 65536:
        return value, 'gray'
    if isinstance(value, (list, tuple)) and len(value) == 3 and all(
            isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 256 for v in value):
        return value[0] << 16 | value[1] << 8 | value[2], 'color'
    raise ValueError(f"{value!r} is neither a gray value nor a color such as '#dc143c'")


def display_palette(table: ClassTable) -> Tuple[Tuple[int, int, int], ...]:
    """RGB of each class, to draw with: the masks' own colors, else Pascal VOC's."""
    if table.kind == 'color' and table.values is not None:
        return tuple((v >> 16, v >> 8 & 255, v & 255) for v in table.values)
    return tuple(_voc_color(label) for label in range(len(table.names)))


def _voc_color(label: int) -> Tuple[int, int, int]:
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (label & 1) << shift
        green |= (label >> 1 & 1) << shift
        blue |= (label >> 2 & 1) << shift
        label >>= 3
    return red, green, blue


def _with_values(content: dict, path: Path) -> ClassTable:
    try:
        parsed = [parse_value(value) for value in content.values()]
    except ValueError as error:
        raise PreflightError(f'--classes {path}: {error}') from error
    kinds = {kind for _, kind in parsed}
    if len(kinds) > 1:
        raise PreflightError(f'--classes {path}: holds gray values and colors: expected one kind')
    return ClassTable(tuple(content), tuple(value for value, _ in parsed), *kinds)


def _check(table: ClassTable, path: Path) -> None:
    if not table.names:
        raise PreflightError(f'--classes {path}: names no classes')
    wrong = [name for name in table.names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise PreflightError(f'--classes {path}: {wrong[0]!r} is not a class name')
    if len(table.names) > MAX_CLASSES:
        raise PreflightError(f'--classes {path}: {len(table.names)} classes, but 8-bit labels '
                             f'allow at most {MAX_CLASSES}')
    for kind, items in (('name', table.names), ('value', table.values or ())):
        twice = _twice(items)
        if twice is not None:
            raise PreflightError(f'--classes {path}: the {kind} {twice!r} appears twice')


def _twice(items: Sequence[Any]) -> Any:
    return next((item for item, count in Counter(items).items() if count > 1), None)
