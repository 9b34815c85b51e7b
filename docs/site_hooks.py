"""Makes the site's first page of README.md, and pages of the notebook and of each module's API."""

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; what a file in docs/ describes already is left to it."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    # README's links are relative to the repository, the page's to docs/.
    for old, new in (('](docs/', ']('), ('src="docs/', 'src="'),
                     ('tutorial.ipynb)', 'tutorial.md)')):
        readme = readme.replace(old, new)
    files.append(File.generated(config, 'index.md', content=readme))
    files.append(File.generated(config, 'tutorial.md', content=_notebook_page()))
    for path in sorted((ROOT / 'mobileone_mm').iterdir()):
        is_module = path.suffix == '.py' or (path / '__init__.py').exists()
        # The laboratory is for this project's own measurements.
        if path.name.startswith('_') or path.name == 'benchmark' or not is_module:
            continue
        name = f'mobileone_mm.{path.stem}'
        files.append(File.generated(config, f'api/{path.stem}.md',
                                    content=f'# {name}\n\n::: {name}\n'))
    return files


def _notebook_page() -> str:
    cells = json.loads((ROOT / 'docs/tutorial.ipynb').read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(
        ''.join(cell['source']) if cell['cell_type'] == 'markdown' else
        f'```python\n{"".join(cell["source"])}\n```' for cell in cells)
