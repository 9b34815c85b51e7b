"""Parse the Kotlin and Swift files of the examples; nothing else here compiles the apps.

    python tests/helpers/phone_syntax.py

This needs the packages in requirements/lint.txt. It prints the place of each error and exits with 1
if there is one.
"""

import importlib
import sys
from pathlib import Path
from typing import List

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
GRAMMARS = {'.kt': 'tree_sitter_kotlin', '.kts': 'tree_sitter_kotlin',
            '.swift': 'tree_sitter_swift'}


def sources() -> List[Path]:
    """The files to parse."""
    return sorted(path for path in EXAMPLES.rglob('*')
                  if path.suffix in GRAMMARS and not {'.build', 'build'} & set(path.parts))


def syntax_errors(text: str, suffix: str) -> List[int]:
    """The lines with syntax errors in the source of a file with that name.

    Raises:
        ImportError: tree-sitter or the grammar is not installed.
    """
    tree_sitter = importlib.import_module('tree_sitter')
    language = tree_sitter.Language(importlib.import_module(GRAMMARS[suffix]).language())
    nodes, lines = [tree_sitter.Parser(language).parse(text.encode()).root_node], []
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            lines.append(node.start_point[0] + 1)
        nodes += node.children
    return sorted(lines)


def main() -> int:
    """Parse all; returns the exit status."""
    errors = [f'{path}:{line}: syntax error' for path in sources()
              for line in syntax_errors(path.read_text(encoding='utf-8'), path.suffix)]
    print('\n'.join(errors) or f'{len(sources())} files of Kotlin and Swift parse')
    return bool(errors)


if __name__ == '__main__':
    sys.exit(main())
