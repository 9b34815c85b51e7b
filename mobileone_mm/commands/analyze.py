"""Run mmdet's and mmseg's own analysis tools, for ``tools/analyze.py``.

The tools import mmcv's compiled operators. With mmcv-lite, this package provides replacements,
because it is imported first.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator, List, Optional

import numpy as np
from mmengine.dataset import RepeatDataset

from ..utils.libraries import TASKS, PreflightError

__all__ = ['list_tools', 'run_analysis']

TOOLS = {
    'mmdet': {
        'analyze_logs': 'learning curves, time per iteration',
        'analyze_results': 'the best and the worst images',
        'browse_dataset': 'the augmented training images',
        'coco_error_analysis': 'precision-recall curves by type of error',
        'confusion_matrix': 'which classes are confused',
        'eval_metric': 'metrics of saved predictions',
        'get_flops': 'operations and parameters',
    },
    'mmseg': {
        'analyze_logs': 'learning curves',
        'browse_dataset': 'the augmented training images',
    },
}
PACKAGES = {'analyze_logs': 'seaborn'}  # a tool needs it, but its library does not declare it


def list_tools() -> str:
    """One line per tool: its library, its name and what it shows."""
    return '\n'.join(f'{library} {name:20} {what}' + (
        f' (needs {PACKAGES[name]})' if name in PACKAGES else '')
        for library, tools in TOOLS.items() for name, what in tools.items())


def run_analysis(library: Optional[str], name: Optional[str], arguments: List[str]) -> None:
    """Run a tool in this process, like its library's ``python tools/analysis_tools/NAME.py``.

    Args:
        library: ``'mmdet'`` or ``'mmseg'``.
        name: Name of the tool, one of ``TOOLS``.
        arguments: Arguments of the tool; they replace those in ``sys.argv``.

    Raises:
        PreflightError: The tool does not exist, or the tool or a package it needs is not installed.
    """
    script = _find_tool(library, name)
    RepeatDataset.__iter__ = _samples  # otherwise browse_dataset never ends
    if library == 'mmseg':
        _draw_on_contiguous_images()
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name='__main__')


def _find_tool(library: Optional[str], name: Optional[str]) -> Path:
    tools = TOOLS.get(library or '')
    if tools is None:
        raise PreflightError(f'{library or "no library"}: expected one of {", ".join(TOOLS)}, and '
                             'a tool; --list names them')
    if (library, name) == ('mmseg', 'confusion_matrix'):
        raise PreflightError("mmseg's confusion_matrix counts in 8 bits, which is wrong for 17 or "
                             'more classes: use tools/test.py CONFIG CHECKPOINT --report DIR')
    if name not in tools:
        raise PreflightError(f'{library} {name or "without a tool"}: expected one of '
                             f'{", ".join(tools)}')
    found = find_spec(str(library))
    if found is None or not found.origin:
        raise PreflightError(f'{library} is not installed: pip install '
                             f'"mobileone-mm[{TASKS[str(library)]}]"')
    package = PACKAGES.get(name)
    if package and find_spec(package) is None:
        raise PreflightError(f'{library} {name} needs {package}, which is not installed: pip '
                             f'install {package}')
    script = Path(found.origin).parent / '.mim/tools/analysis_tools' / f'{name}.py'
    if not script.is_file():
        raise PreflightError(f'{script} does not exist: install {library} from its wheel, which '
                             'includes it')
    return script


def _samples(dataset: RepeatDataset) -> Iterator[Any]:
    """Iterate once; the data set's ``__getitem__`` wraps around and never ends."""
    return (dataset[i] for i in range(len(dataset)))


def _draw_on_contiguous_images() -> None:
    """Copy images first: mmseg's browse_dataset passes views, which OpenCV cannot draw on."""
    from mmseg.visualization import SegLocalVisualizer
    draw = SegLocalVisualizer.add_datasample

    def draw_on_copy(self: Any, name: str, image: np.ndarray, *args: Any, **kwargs: Any) -> None:
        draw(self, name, np.ascontiguousarray(image), *args, **kwargs)

    SegLocalVisualizer.add_datasample = draw_on_copy
