"""Write a user's names and paths into configs, whatever characters they contain."""

import math
from pathlib import PurePath
from typing import Any

__all__ = ['fill', 'literal']


def fill(template: str, **values: Any) -> str:
    """Fill each ``{field}`` of a config's template with the Python literal of a value.

    No value can break out of its literal or be expanded by mmengine. So fields belong where Python
    expects an expression, not in quotes, comments or docstrings.

    Args:
        template: Python source with the fields of :meth:`str.format`.
        **values: Values that :func:`literal` takes.
    """
    return template.format(**{name: literal(value) for name, value in values.items()})


def literal(value: Any) -> str:
    """Write a value as Python source that gives an equal value when a config is read.

    Args:
        value: A string, a path (becomes a string), a finite number, a bool, None, or a list, tuple
            or dict of these.

    Raises:
        TypeError: The value is or holds anything else.
    """
    if isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, str):
        # mmengine replaces {{ variables }} in the text of a config, in strings as well.
        return repr(str(value)).replace('{{', r'{\x7b')
    if value is None or type(value) in (bool, int) or (
            type(value) is float and math.isfinite(value)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        items = ', '.join(map(literal, value))
        if isinstance(value, list):
            return f'[{items}]'
        return f'({items}, )' if len(value) == 1 else f'({items})'
    if isinstance(value, dict):
        items = ', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())
        return f'{{{items}}}'
    raise TypeError(f'{value!r} of {type(value)} has no literal for a config')
