"""A small document that becomes Markdown and one self-contained HTML page."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Union

__all__ = ['Code', 'Figure', 'Heading', 'Table', 'Text', 'to_html', 'to_markdown']


@dataclass(frozen=True)
class Heading:
    """A section's title; level 1 is the page's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as text; all columns but the first are aligned to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A picture that lies in the report's folder as NAME.png and NAME.svg."""

    name: str
    caption: str


Block = Union[Heading, Text, Code, Table, Figure]


def to_markdown(blocks: Sequence[Block], pictures: str) -> str:
    """Markdown; ``pictures`` is the path from the page to the folder of the pictures."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f'{"#" * block.level} {block.text}')
        elif isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Code):
            parts.append(f'```bash\n{block.text}\n```')
        elif isinstance(block, Figure):
            parts.append(f'![{block.caption}]({pictures}/{block.name}.png)')
        else:
            lines = [_row(block.header), '|--|' + '--:|' * (len(block.header) - 1)]
            parts.append('\n'.join(lines + [_row(row) for row in block.rows]))
    return '\n\n'.join(parts) + '\n'


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in cells) + ' |'


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { color: #666; font-size: .85rem; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; }
"""


def to_html(blocks: Sequence[Block], folder: Path) -> str:
    """One page with the pictures of ``folder`` inside, as SVG."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    body: List[str] = [_html(block, folder) for block in blocks]
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width">'
            f'<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n'
            + '\n'.join(body) + '\n</body></html>\n')


def _html(block: Block, folder: Path) -> str:
    if isinstance(block, Table):
        head = ''.join(f'<th>{html.escape(str(cell))}</th>' for cell in block.header)
        rows = '\n'.join('<tr>' + ''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)
                         + '</tr>' for row in block.rows)
        return (f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody>'
                '</table></div>')
    if isinstance(block, Figure):
        data = base64.b64encode((folder / f'{block.name}.svg').read_bytes()).decode()
        caption = html.escape(block.caption)
        return (f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
                f'<figcaption>{caption}</figcaption></figure>')
    text = html.escape(block.text)
    if isinstance(block, Heading):
        return f'<h{block.level}>{text}</h{block.level}>'
    return f'<pre>{text}</pre>' if isinstance(block, Code) else f'<p>{text}</p>'
