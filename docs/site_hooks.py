"""Makes the site's first page of README.md, and a page of API reference for each module."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; what a file in docs/ describes already is left to it."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    # README's links are relative to the repository, the page's to docs/.
    files.append(File.generated(config, 'index.md', content=readme.replace('](docs/', '](')
                                .replace('src="docs/', 'src="')))
    for path in sorted((ROOT / 'mobileone_mm').iterdir()):
        is_module = path.suffix == '.py' or (path / '__init__.py').exists()
        if path.name.startswith('_') or not is_module:
            continue
        name = f'mobileone_mm.{path.stem}'
        files.append(File.generated(config, f'api/{path.stem}.md',
                                    content=f'# {name}\n\n::: {name}\n'))
    return files
