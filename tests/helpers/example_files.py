"""The modules of examples/python, which is not a package."""

import importlib.util
import sys
from types import ModuleType

from paths import ROOT

EXAMPLES = ROOT / 'examples'


def load(name: str) -> ModuleType:
    """One of them, fresh, with its neighbors importable while it loads."""
    folder = str(EXAMPLES / 'python')
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location(name, f'{folder}/{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module
