"""Find the OpenMMLab library that a config needs."""

import importlib
import importlib.util
from typing import Any, List, Tuple

from mmengine.registry import DATASETS

from .errors import PreflightError

__all__ = ['LIBRARIES', 'TASKS', 'PreflightError', 'check_library', 'class_names',
           'class_palette']

TASKS = dict(mmdet='detection', mmseg='segmentation')


def class_names(dataset: Any) -> List[str]:
    """Class names in a data set's config, or else of its type; may be none."""
    classes = _metainfo(dataset, 'classes') or ()
    return [classes] if isinstance(classes, str) else list(classes)


def class_palette(dataset: Any, count: int) -> List[Tuple[int, ...]]:
    """RGB of each of ``count`` classes: the data set's, or evenly spread hues."""
    palette = _metainfo(dataset, 'palette') or ()
    if len(palette) < count:
        hues = [index * 137 % 256 for index in range(count)]
        palette = [(hue, 255 - hue, hue * 7 % 256) for hue in hues]
    # mmdet's visualizer takes a list for several colors.
    return [tuple(color) for color in palette[:count]]


def _metainfo(dataset: Any, key: str) -> Any:
    found = (dataset.get('metainfo') or {}).get(key)
    if found is None:
        with DATASETS.switch_scope_and_registry(None) as registry:  # the config's library
            kind = registry.get(dataset['type'])
        found = getattr(kind, 'METAINFO', {}).get(key)
    return found


LIBRARIES = {'mmdet': 'detection', 'mmseg': 'segmentation', 'mmpretrain': 'classification'}


def check_library(scope: str) -> None:
    """Check that the library of a config's ``default_scope`` is installed.

    Raises:
        PreflightError: It is not, or the scope is not mmdet, mmseg or mmpretrain.
    """
    if scope not in LIBRARIES:
        raise PreflightError(f"the config's default_scope is {scope!r}: expected 'mmdet' "
                             "(detection), 'mmseg' (segmentation) or 'mmpretrain' "
                             '(classification)')
    if importlib.util.find_spec(scope) is None:
        raise PreflightError(f'the config needs {scope}, which is not installed: '
                             f'pip install "mobileone-mm[{LIBRARIES[scope]}]"')
    if scope == 'mmpretrain':
        _check_mmpretrain()


def _check_mmpretrain() -> None:
    """Check torchvision: mmpretrain imports it without declaring it, and it must fit torch."""
    try:
        importlib.import_module('mmpretrain.models')
    except (ImportError, RuntimeError) as error:  # torchvision's operators raise RuntimeError
        raise PreflightError(
            f'mmpretrain cannot be imported ({type(error).__name__}: {error}); it needs '
            'torchvision in the release that belongs to the installed torch') from error
