"""Walk a config and check what each data set names."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from .coco import coco_problems
from .label_maps import label_map_problems
from .source import Source

LIBRARIES = {'mmdet': 'detection', 'mmseg': 'segmentation', 'mmpretrain': 'classification'}


class PreflightError(ValueError):
    """What a run needs is missing or does not fit; the message names every file concerned."""


def check_library(scope: str) -> None:
    """Check that the library of a config's ``default_scope`` is installed.

    Raises:
        PreflightError: It is not, or the scope is none of mmdet, mmseg and mmpretrain.
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
    """It imports torchvision, which must fit the installed torch, without declaring it."""
    try:
        importlib.import_module('mmpretrain.models')
    except (ImportError, RuntimeError) as error:  # torchvision's ops raise the latter
        raise PreflightError(
            f'mmpretrain cannot be imported ({type(error).__name__}: {error}); it needs '
            'torchvision in the release that belongs to the installed torch') from error


def check_data(cfg: Any, loaders: Sequence[str] = ('train', 'val')) -> None:
    """Check the data sets of a config: files, images, classes.

    Args:
        cfg: An OpenMMLab config; its custom imports must have been done.
        loaders: Which of 'train', 'val' and 'test' are to be used.

    Raises:
        PreflightError: Files are missing or damaged, or classes differ; it lists all problems.
    """
    missing: List[Path] = []
    problems: List[str] = []
    advice: List[str] = []  # once for all that is missing
    for loader in loaders:
        dataloader = cfg.get(f'{loader}_dataloader') or {}
        for dataset in _leaves(dataloader.get('dataset') or {}):
            source = Source(dataset, cfg.get('default_scope'))
            if source.is_remote:
                continue
            if source.missing():
                missing += source.missing()
                advice.append(source.advice())
            else:
                problems += _content_problems(source, cfg)
        for evaluator in _as_list(cfg.get(f'{loader}_evaluator')):
            ann_file = evaluator.get('ann_file')
            if ann_file and '://' not in ann_file and not Path(ann_file).is_file():
                missing.append(Path(ann_file))
    if missing:
        names = ', '.join(map(str, dict.fromkeys(missing)))
        problems += [f'these files and folders do not exist: {names}', *advice]
    if problems:
        raise PreflightError('\n'.join(dict.fromkeys(problems)))


def _content_problems(source: Source, cfg: Any) -> List[str]:
    problems = _class_count_problems(source, cfg)
    if source.ann_file and source.ann_file.suffix == '.json':
        problems += coco_problems(source)
    elif 'seg_map_path' in source.folders:
        problems += label_map_problems(source)
    return problems


def _class_count_problems(source: Source, cfg: Any) -> List[str]:
    if source.classes is None:
        return []
    origin = source.ann_file or next(iter(source.folders.values()), source.root)
    return [f'{where}={number}, but the data set of {origin} has {len(source.classes)} classes'
            f' ({_shorten(source.classes)})'
            for where, number in _num_classes(cfg.get('model') or {}, 'model')
            if number != len(source.classes)]


def _num_classes(model: Any, where: str) -> Iterator[Tuple[str, int]]:
    """Every num_classes within a model's config, but those of class-agnostic proposals."""
    if isinstance(model, dict):
        for key, value in model.items():
            if key == 'num_classes' and isinstance(value, int):
                yield f'{where}.{key}', value
            elif key != 'rpn_head':
                yield from _num_classes(value, f'{where}.{key}')
    elif isinstance(model, (list, tuple)):
        for i, item in enumerate(model):
            yield from _num_classes(item, f'{where}[{i}]')


def _leaves(dataset: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """The data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = _as_list(dataset.get('dataset')) + _as_list(dataset.get('datasets'))
    if not inner and dataset:
        yield dataset
    for item in inner:
        yield from _leaves(item)


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value] if value else []


def _shorten(names: Sequence[str], most: int = 5) -> str:
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')
