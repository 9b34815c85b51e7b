"""Masks whose gray values or colors the user has listed."""

from collections import Counter
from typing import Dict, Sequence, Tuple

import numpy as np

from ...utils.libraries import PreflightError
from .classes import IGNORE_INDEX, ClassTable
from .masks import to_text
from .reading import EXAMPLES, NEAR, Reading, as_color, distances, list_values, template
from .survey import Survey

__all__ = ['read_listed']

FAR = .05  # highest share of pixels that may be far from all listed values


def read_listed(found: Survey, classes: ClassTable, ignored: Sequence[Tuple[int, str]]) -> Reading:
    """Read masks by a list of values or colors.

    Raises:
        PreflightError: Masks hold values that are not listed.
    """
    counts, places = _values(found, classes.kind)
    if len(classes.names) == 1 and 0 not in (classes.values or ()):
        classes = ClassTable(('background', *classes.names), (0, *(classes.values or ())),
                             classes.kind)
    table = {value: label for label, value in enumerate(classes.values or ())}
    for value, kind in ignored:
        table[value if kind == classes.kind else value * 0x010101] = IGNORE_INDEX
    if classes.kind == 'gray':
        table.setdefault(IGNORE_INDEX, IGNORE_INDEX)
    unlisted = Counter({value: count for value, count in counts.items() if value not in table})
    reading = Reading(classes, table, classes.kind == 'color')
    if not unlisted and not found.smeared:
        return reading
    if not found.smeared and len(unlisted) <= 2 * EXAMPLES:
        value, count = unlisted.most_common(1)[0]
        raise PreflightError(
            f'{places[value]}: holds {to_text(value, classes.kind)}, which --classes does not list '
            f'({count:,} pixels in all masks; not listed are '
            f'{list_values(unlisted, classes.kind)}): list it, or leave it out with --ignore '
            f'"{to_text(value, classes.kind)}"')
    return _nearest(reading, counts)


def _values(found: Survey, kind: str) -> Tuple[Counter, Dict[int, str]]:
    """All values of the masks in the form of the user's list: gray values or colors."""
    counts: Counter = Counter()
    places: Dict[int, str] = {}
    for look in found.looks:
        if kind == 'gray' and look.kind == 'color':
            raise PreflightError(
                f'{look.pair.mask}: a color mask ({list_values(Counter(look.values), "color")}), '
                'but --classes lists gray values: list colors, such as '
                + template(list(look.values), 'color'))
        for value, count in look.values.items():
            if kind == 'color':
                gray, value = value, as_color(value, look)
                if value < 0:
                    raise PreflightError(f'{look.pair.mask}: holds the gray value {gray}, but '
                                         '--classes lists colors')
            counts[value] += count
            places.setdefault(value, str(look.pair.mask))
    return counts, places


def _nearest(reading: Reading, counts: Counter) -> Reading:
    kind = reading.classes.kind
    listed, seen = np.array(list(reading.table)), np.array(list(counts))
    apart = distances(listed, listed, reading.as_colors)
    np.fill_diagonal(apart, np.inf)
    reach = max(float(NEAR), float(apart.min()) / 2 if len(listed) > 1 else 0.)
    far = seen[distances(seen, listed, reading.as_colors).min(1) > reach].tolist()
    left_out = Counter({value: counts[value] for value in far})
    share = sum(left_out.values()) / sum(counts.values())
    if share > FAR:
        raise PreflightError(f"{share:.0%} of the masks' pixels are far from everything that "
                             f'--classes lists: {list_values(left_out, kind)}')
    reading.reach = reach
    reading.notes.append('values that --classes does not list (compression, soft edges) go to the '
                         f'nearest listed one; those farther away than {reach:.0f} are left out')
    return reading
