"""Walk a config and check what each data set names."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from ...utils.libraries import PreflightError
from .coco import coco_problems
from .label_maps import label_map_problems
from .segmentors import segmentor_problems
from .source import Source


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
                problems += _content_problems(source, cfg, loader == 'train')
        for evaluator in _as_list(cfg.get(f'{loader}_evaluator')):
            ann_file = evaluator.get('ann_file')
            if ann_file and '://' not in ann_file and not Path(ann_file).is_file():
                missing.append(Path(ann_file))
    if missing:
        names = ', '.join(map(str, dict.fromkeys(missing)))
        problems += [f'these files and folders do not exist: {names}', *advice]
    if not problems and cfg.get('default_scope') == 'mmseg':
        problems += segmentor_problems(cfg, 'train' in loaders)
    if problems:
        raise PreflightError('\n'.join(dict.fromkeys(problems)))


def _content_problems(source: Source, cfg: Any, training: bool) -> List[str]:
    problems = _class_count_problems(source, cfg)
    if 'seg_map_path' in source.folders:
        problems += label_map_problems(source, training)
    elif source.ann_file and source.ann_file.suffix == '.json':
        problems += coco_problems(source)
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
