"""Start a tool: parse its arguments first, and import torch only then."""

import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Callable


def run(parser: ArgumentParser, command: Callable[[Namespace], Any], *errors: type) -> int:
    """Parse the arguments of the process and run a command; errors are printed as one line."""
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
    args = parser.parse_args()
    _package()
    from mobileone_mm.commands.main import main
    return main(lambda _: command(args), *errors, debug=args.debug)


def arguments() -> ModuleType:
    """Load mobileone_mm.commands.arguments without its package, which imports torch."""
    path = _package() / 'commands' / 'arguments.py'
    spec = spec_from_file_location('mobileone_mm_arguments', path)
    if spec is None or spec.loader is None:
        sys.exit(f'error: {path} is missing: reinstall mobileone_mm')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _package() -> Path:
    found = find_spec('mobileone_mm')
    if found is None or not found.origin:
        sys.exit(f'error: {sys.executable} has no mobileone_mm: run `make env` and `source '
                 '.venv/bin/activate`, or pip install it')
    return Path(found.origin).parent
