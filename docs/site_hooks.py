"""Generate pages from other files: README, the changelog, the notebook and the API."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Links in README to files that are not pages become text.
NO_PAGE = re.compile(r'\[([^\[\]]+)\]\((?:configs/[^)]*|LICENSE|CITATION\.cff)\)')

# Inline code and blocks without highlighting, and the options in it.
CODE = re.compile(r'<code>[^<]*--[^<]*</code>')
OPTION = re.compile(r'--[a-z][\w-]*')

# A role of Sphinx, and the part of the name that it hides.
ROLE = re.compile(
    r':(?:attr|class|data|func|meth|mod):(?=<code>)|(?<=<code>)~(?:\w+\.)*(?=\w+</code>)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the API to the navigation."""
    readme = NO_PAGE.sub(r'\1', (ROOT / 'README.md').read_text(encoding='utf-8'))
    # README's links are relative to the repository, the page's to docs/.
    for old, new in (('](docs/', ']('), ('src="docs/', 'src="'),
                     ('CONTRIBUTING.md)', 'contributing.md)'), ('CHANGELOG.md)', 'changelog.md)')):
        readme = readme.replace(old, new)
    pages = {'index.md': readme, 'tutorial.md': _notebook_page(),
             'changelog.md': (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')}
    api = []
    for path in sorted((ROOT / 'mobileone_mm').iterdir()):
        is_module = path.suffix == '.py' or (path / '__init__.py').exists()
        # benchmark is for this project's own measurements.
        if path.name.startswith('_') or path.name == 'benchmark' or not is_module:
            continue
        name = f'mobileone_mm.{path.stem}'
        pages[f'api/{path.stem}.md'] = f'# {path.stem}\n\n::: {name}\n'
        api.append(f'api/{path.stem}.md')
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    config.nav = [*(config.nav or []), {'API': api}]
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Point links to the notebook to its page."""
    return markdown.replace('tutorial.ipynb)', 'tutorial.md)')


def on_page_content(html: str, **kwargs: Any) -> str:
    """Turn Sphinx's roles and double colons into plain text, and keep options on one line."""
    return CODE.sub(lambda code: OPTION.sub(r'<span class="option">\g<0></span>', code[0]),
                    ROLE.sub('', html).replace('::</p>', ':</p>'))


def _notebook_page() -> str:
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(
        ''.join(cell['source']) if cell['cell_type'] == 'markdown' else
        f'```python\n{"".join(cell["source"])}\n```' for cell in cells)
