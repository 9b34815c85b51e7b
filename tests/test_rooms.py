"""The package's rooms import each other as docs/architecture.md allows."""

import ast
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
from paths import ROOT

PACKAGE = 'mobileone_mm'


def floors():
    """The floor of each room, from the table on that page."""
    found = {}
    for line in (ROOT / 'docs/architecture.md').read_text().splitlines():
        cells = [cell.strip() for cell in line.split('|')]
        if len(cells) > 3 and cells[1].isdigit():
            found[cells[2].strip('`')] = int(cells[1])
    return found


def sources():
    files = [*(ROOT / PACKAGE).glob('*/**/*.py'), *(ROOT / 'tools').rglob('*.py')]
    paths = [path for path in files if '.mim' not in path.parts]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def room_of(parts):
    return parts[1] if parts[0] == PACKAGE else parts[0]


def imported(path, node):
    """Modules of the package that an import statement names, split at their dots."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        folder = PurePosixPath(path).parent.parts
        base = '.'.join(folder[:len(folder) - node.level + 1]) + '.' if node.level else ''
        names = [f'{base}{node.module or ""}.{alias.name}'.replace('..', '.')
                 for alias in node.names]
    else:
        return []
    split = [name.split('.') for name in names]
    return [parts for parts in split if parts[0] == PACKAGE and len(parts) > 1]


def arrows(files):
    """(room, room that it imports): path and line of one such import, inside functions too."""
    found, rooms = {}, floors()
    for path, text in files.items():
        room = room_of(PurePosixPath(path).parts)
        for node in ast.walk(ast.parse(text)):
            for parts in imported(path, node):
                if room_of(parts) in rooms and room_of(parts) != room:
                    found[room, room_of(parts)] = f'{path}:{node.lineno}'
    return found


def back_up(files):
    floor = floors()
    return {f'{one} -> {other}': place for (one, other), place in arrows(files).items()
            if floor[one] <= floor[other]}


def test_every_room_has_a_floor():
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob('*/__init__.py')}
    assert set(floors()) == folders | {'tools'}


def test_imports_go_down():
    files = sources()
    assert len(arrows(files)) > 20  # otherwise nothing was read
    assert not back_up(files)


@pytest.mark.parametrize('path, text, arrow', [
    ('mobileone_mm/utils/new.py', 'from ..backbones.block import MobileOneBlock',
     'utils -> backbones'),
    ('mobileone_mm/branches/maths/new.py', 'def f():\n    from ... import folding',
     'branches -> folding'),
    ('mobileone_mm/export/int8/new.py', 'import mobileone_mm.commands.demo', 'export -> commands'),
])
def test_a_planted_arrow_back_up_is_found(path, text, arrow):
    assert list(back_up({**sources(), path: text})) == [arrow]


def from_the_tests(files):
    """Imports of what only a checkout has: it would fail in an installed wheel."""
    helpers = {'tests', *(path.stem for path in (ROOT / 'tests/helpers').glob('*.py'))}
    nodes = [(path, node) for path, text in files.items() for node in ast.walk(ast.parse(text))]
    found = [(path, alias.name) for path, node in nodes if isinstance(node, ast.Import)
             for alias in node.names]
    found += [(path, node.module) for path, node in nodes
              if isinstance(node, ast.ImportFrom) and not node.level]
    return [f'{path}: {name}' for path, name in found if name.split('.')[0] in helpers]


def test_nothing_is_imported_from_the_tests():
    assert not from_the_tests(sources())
    for text in ('import paths', 'def f():\n    from tests.helpers import paths'):
        assert len(from_the_tests({**sources(), 'tools/new.py': text})) == 1


# Runs code without OpenMMLab, and with empty packages instead of those whose __init__ needs more.
BARE = """
import sys, types
for name in {packages!r}:
    module = types.ModuleType(name)
    module.__path__ = [{root!r} + '/' + name.replace('.', '/')]
    sys.modules[name] = module
sys.modules.update(dict.fromkeys(['mmengine', 'mmcv', 'mmdet', 'mmseg', 'numba']))
{code}
"""


def run_bare(code):
    packages = ['mobileone_mm', 'mobileone_mm.branches', 'mobileone_mm.branches.maths',
                'mobileone_mm.folding']
    code = BARE.format(packages=packages, root=str(ROOT), code=code)
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)


def test_the_pure_maths_need_torch_only():
    modules = ['mobileone_mm.folding.maths', *(
        f'mobileone_mm.branches.maths.{path.stem}'
        for path in (ROOT / PACKAGE / 'branches/maths').glob('*.py') if path.stem != '__init__')]
    assert len(modules) > 3
    result = run_bare('\n'.join(f'import {module}' for module in modules)
                      + '\nassert "torch" in sys.modules')
    assert result.returncode == 0, result.stderr


def test_another_module_does_not_import_there():
    result = run_bare('import mobileone_mm.folding.models')
    assert result.returncode != 0 and 'mmengine' in result.stderr
