"""Find the only meaning that the masks' values can have, or ask for it."""

from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple

from ...utils.libraries import PreflightError
from ...utils.messages import shorten
from .classes import IGNORE_INDEX, MAX_CLASSES, ClassTable
from .listed import read_listed
from .masks import to_text
from .reading import NEAR, Reading, list_values, template
from .survey import Survey

__all__ = ['decide']

MOSTLY = .95  # share of pixels near black or white in a black and white mask


def decide(found: Survey, classes: Optional[ClassTable], ignored: Sequence[Tuple[int, str]] = ()
           ) -> Reading:
    """Find the only meaning that the masks' values can have.

    Args:
        found: The survey of all masks.
        classes: The classes as the user describes them, if so.
        ignored: Values that mean 'ignore this pixel', each with its kind.

    Raises:
        PreflightError: There is no meaning, or more than one. The message says what to do.
    """
    if not found.values:
        raise PreflightError('there are no masks')
    if classes is not None and classes.values is not None and not _holds_labels(found, classes):
        return read_listed(found, classes, ignored)
    gray = [value for value, kind in ignored if kind == 'gray']
    reading = _read_labels(found, classes, gray)
    if classes is not None and classes.values is not None:
        reading.notes.append('masks hold labels; the values of --classes are not needed')
    return reading


def _holds_labels(found: Survey, classes: ClassTable) -> bool:
    """Whether masks hold labels, and the listed colors are only for drawing."""
    if classes.kind == 'gray' or 'color' in found.values:
        return False
    drawn = set(found.values.get('gray', {}))
    drawn = {value * 0x010101 for value in drawn}
    for look in found.looks:
        drawn.update(look.palette.values())
    values = set().union(*found.values.values())
    return not drawn <= set(classes.values or ()) and values <= {
        *range(len(classes.names)), IGNORE_INDEX}


def _read_labels(found: Survey, classes: Optional[ClassTable], ignored: List[int]) -> Reading:
    _refuse_colors(found)
    counts: Counter = sum(found.values.values(), Counter())
    if not ignored and (classes is None or len(classes.names) <= 2) and _is_binary(found, counts):
        return _read_binary(counts, classes)
    _refuse_smears(found, counts)
    leave_out = {IGNORE_INDEX, *ignored}
    used = sorted(set(counts) - leave_out)
    places = {**found.seen_in.get('index', {}), **found.seen_in.get('gray', {})}
    if not used:
        raise PreflightError('the masks hold nothing but values that are left out '
                             f'({list_values(counts, "gray")})')
    classes = classes or _invent(used, places)
    if len(classes.names) == 1:
        classes = _with_background(classes)
    table, notes = {value: value for value in used}, []
    if used[0] == 1 and used[-1] == len(classes.names):
        table = {value: value - 1 for value in used}
        notes.append(f'masks count classes from 1: 1 is {classes.names[0]!r}')
    _refuse_labels_beyond(table, classes, counts, places)
    table.update(dict.fromkeys(leave_out & set(counts), IGNORE_INDEX))
    return Reading(classes, table, notes=notes)


def _is_binary(found: Survey, counts: Counter) -> bool:
    """Whether masks are black and white: then the highest value is a class and not ignored."""
    top = max(counts)
    white = {look.palette.get(top) for look in found.looks if top in look.palette}
    if top not in (255, 65535) or white - {0xffffff}:
        return False
    if set(counts) == {0, top}:
        return True
    near = NEAR * top // 255
    soft = any(top - near <= value < top for value in counts)  # white, changed by compression
    ends = sum(count for value, count in counts.items() if min(value, top - value) <= near)
    others = sum(look.others for look in found.looks)
    return soft and ends >= MOSTLY * (sum(counts.values()) + others)


def _read_binary(counts: Counter, classes: Optional[ClassTable]) -> Reading:
    top = max(counts)
    classes = classes or ClassTable(('background', 'foreground'))
    if len(classes.names) == 1:
        classes = _with_background(classes)
    reading = Reading(classes, {0: 0, top: 1}, notes=[
        f'masks are black and white: {top} becomes label 1, {classes.names[1]!r}'])
    if set(counts) != {0, top}:
        reading.reach = float(top)
        reading.notes.append(f'values between 0 and {top} (compression, soft edges) go to the '
                             'nearer one')
    return reading


def _with_background(classes: ClassTable) -> ClassTable:
    """Add the background to a single class: mmsegmentation counts it as a class."""
    return ClassTable(('background', *classes.names))


def _invent(used: List[int], places: Dict[int, str]) -> ClassTable:
    """Make up names for labels that have none."""
    number = used[-1] + 1
    if number > MAX_CLASSES or len(used) < number / 2:
        raise PreflightError(
            f'{places[used[-1]]}: holds the value {used[-1]}; all masks together hold '
            f'{len(used)} values ({shorten(used, 12)}): say what they mean with --classes '
            f'palette.json, such as {template(used, "gray")}')
    if number <= 2:
        return ClassTable(('background', 'foreground'))
    return ClassTable(tuple(f'class_{label}' for label in range(number)))


def _refuse_colors(found: Survey) -> None:
    if 'color' in found.values:
        counts = found.values['color']
        # An all-black mask counts as gray.
        black = [0] if 0 in found.values.get('gray', {}) and 0 not in counts else []
        colors = black + [value for value, _ in counts.most_common()]
        raise PreflightError(
            f'{found.seen_in["color"][counts.most_common(1)[0][0]]}: a color mask '
            f'({list_values(counts, "color")}): say what its colors mean with --classes '
            f'palette.json, such as {template(colors, "color")}')
    first: Dict[int, Tuple[int, str]] = {}
    for look in found.looks:
        for index, color in look.palette.items():
            other, path = first.setdefault(index, (color, str(look.pair.mask)))
            if other != color:
                raise PreflightError(
                    f'{look.pair.mask}: its index {index} is {to_text(color, "color")}, that of '
                    f'{path} is {to_text(other, "color")}: such indices mean nothing, so say what '
                    'the colors mean with --classes palette.json, such as '
                    + template([other, color], 'color'))


def _refuse_smears(found: Survey, counts: Counter) -> None:
    if found.smeared:
        raise PreflightError(
            f'{next(iter(found.smeared.values()))}: compression or soft edges have changed its '
            f'values ({list_values(counts, "gray")}), so they are not labels: save masks as PNG '
            'without smoothing, or name the gray value of each class with --classes palette.json, '
            'such as {"background": 0, "NAME": 128}')


def _refuse_labels_beyond(table: Dict[int, int], classes: ClassTable, counts: Counter,
                          places: Dict[int, str]) -> None:
    number = len(classes.names)
    wrong = [value for value, label in table.items() if label >= number]
    if wrong:
        first = ('; if 0 is the background, begin --classes with that name'
                 if wrong == [number] and 0 in table else '')
        raise PreflightError(
            f'{places[wrong[-1]]}: holds the label {wrong[-1]}, but there are {number} classes (0 '
            f'to {number - 1}, {IGNORE_INDEX} to leave out). All labels: '
            f'{list_values(counts, "gray")}. Name all classes in --classes, or leave labels out '
            f'with --ignore{first}')
