"""Write the parts of a Markdown page."""

from typing import Sequence

__all__ = ['code', 'heading', 'table']


def heading(text: str, level: int = 2) -> str:
    """A section's title; level 1 is the title of the page."""
    return f'{"#" * level} {text}'


def code(text: str) -> str:
    """Commands."""
    return f'```bash\n{text}\n```'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table; columns of ``numbers``, all but the first, are aligned to the right."""
    lines = [_row(header), '|--|' + ('--:|' if numbers else '--|') * (len(header) - 1)]
    return '\n'.join(lines + [_row(row) for row in rows])


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in cells) + ' |'
