"""The configs printed in docs/other_models.md, so that what users copy is what is tested."""

import re
from pathlib import Path
from typing import Dict

from mmengine.config import Config

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'other_models.md'


def doc_configs(library: str) -> Dict[str, str]:
    """Name of the stock config -> text of each config whose base is of ``library``."""
    blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    found = {}
    for block in blocks:
        base = re.match(rf"_base_ = '{library}::([^/]+)/", block)
        if base:
            found[base.group(1)] = block
    return found


def load(text: str, folder: Path) -> Config:
    """Parse a config as a user's own file."""
    path = folder / 'own_config.py'
    path.write_text(text)
    return Config.fromfile(path)
