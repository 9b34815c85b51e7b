"""Walk a config and check what each data set names."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ...utils.libraries import TASKS, PreflightError
from ...utils.messages import shorten
from ...utils.wrapped import count_samples, unwrapped
from .coco import check_coco
from .label_maps import label_map_problems
from .segmentors import segmentor_problems
from .source import Source

__all__ = ['DataCheck', 'check_classes', 'check_data']


@dataclass
class DataCheck:
    """What :func:`check_data` found, besides errors.

    Attributes:
        notes: Notes for the user, one line each.
        train_samples: Samples per epoch, if known.
    """

    notes: List[str] = field(default_factory=list)
    train_samples: Optional[int] = None


def check_data(cfg: Any, loaders: Sequence[str] = ('train', 'val')) -> DataCheck:
    """Check the data sets of a config: files, images, annotations, classes.

    COCO annotations that pycocotools or mmdet would misread, but that can have one meaning only,
    are repaired in a copy in ``work_dir/annotations``, and the config then reads that copy.

    Args:
        cfg: An OpenMMLab config whose custom imports have been made.
        loaders: Which of 'train', 'val' and 'test' will be used.

    Raises:
        PreflightError: Files are missing or damaged, or classes differ. It lists all problems.
    """
    found = DataCheck()
    missing: List[Path] = []
    problems: List[str] = _class_agreement_problems(cfg, loaders)
    advice: List[str] = []  # one message for everything that is missing
    samples: Dict[int, int] = {}  # by id() of a data set's config
    for loader in loaders:
        dataloader = cfg.get(f'{loader}_dataloader') or {}
        evaluators = _as_list(cfg.get(f'{loader}_evaluator'))
        for dataset in unwrapped(dataloader.get('dataset') or {}):
            source = Source(dataset, cfg.get('default_scope'))
            if source.is_remote:
                continue
            if source.missing():
                missing += source.missing()
                advice.append(source.advice())
                continue
            problems += _class_count_problems(source, cfg)
            try:
                if source.is_coco:
                    samples[id(dataset)] = _check_coco(source, loader, evaluators, cfg, found)
                elif 'seg_map_path' in source.folders:
                    problems += label_map_problems(source, loader == 'train')
            except PreflightError as error:
                problems.append(str(error))
        for evaluator in evaluators:
            ann_file = evaluator.get('ann_file')
            if ann_file and '://' not in ann_file and not Path(ann_file).is_file():
                missing.append(Path(ann_file))
    if missing:
        names = ', '.join(map(str, dict.fromkeys(missing)))
        problems += [f'these files and folders do not exist: {names}', *advice]
    if not problems and cfg.get('default_scope') == 'mmseg':
        problems = segmentor_problems(cfg, 'train' in loaders)
    if problems:
        raise PreflightError('\n'.join(dict.fromkeys(problems)))
    train = cfg.get('train_dataloader') or {}
    found.train_samples = count_samples(train.get('dataset') or {},
                                        lambda dataset: samples.get(id(dataset)))
    return found


def _check_coco(source: Source, loader: str, evaluators: Sequence[Dict[str, Any]], cfg: Any,
                found: DataCheck) -> int:
    metrics = [e for e in evaluators if not str(e.get('type')).startswith('Dump')]
    labeled = loader == 'train' or not metrics or not all(e.get('format_only') for e in metrics)
    folder = Path(cfg.work_dir, 'annotations') if cfg.get('work_dir') else None
    original = source.ann_file
    check = check_coco(source, loader, labeled, folder)
    found.notes += check.notes
    for evaluator in evaluators:
        ann_file = evaluator.get('ann_file')
        if not ann_file or not original or '://' in ann_file:
            continue
        if Path(ann_file).resolve() == original.resolve():
            evaluator['ann_file'] = str(check.ann_file)
        elif loader != 'train':
            found.notes.append(f'{loader}_evaluator.ann_file is {ann_file}, but the images are '
                               f'those of {original}')
    return check.images


def _class_agreement_problems(cfg: Any, loaders: Sequence[str]) -> List[str]:
    """Check that all data sets have the training classes in the same order: labels are numbers."""
    scope = cfg.get('default_scope')
    if scope not in TASKS:  # of classification the folders' names are the classes
        return []
    classes = {}
    for loader in dict.fromkeys(('train', *loaders)):
        dataloader = cfg.get(f'{loader}_dataloader') or {}
        for dataset in unwrapped(dataloader.get('dataset') or {}):
            classes[loader] = Source(dataset, scope).classes
    train = classes.pop('train', None)
    return [f'{loader}_dataloader has the classes ({shorten(own)}), training has '
            f'({shorten(train)}): give both the same, in the same order'
            + ('. The categories of annotation files are matched by name' * (scope == 'mmdet'))
            for loader, own in classes.items() if train and own and own != train]


def check_classes(cfg: Any, loader: str, classes: Any, owner: str) -> None:
    """Check that a data set has the classes of a checkpoint, in the same order.

    Args:
        cfg: An OpenMMLab config.
        loader: 'train', 'val' or 'test'.
        classes: Names in the order of the checkpoint's outputs; None if it does not say.
        owner: What ``classes`` belong to, for the message.

    Raises:
        PreflightError: They differ.
    """
    dataloader = cfg.get(f'{loader}_dataloader') or {}
    for dataset in unwrapped(dataloader.get('dataset') or {}):
        own = Source(dataset, cfg.get('default_scope')).classes
        if classes and own and tuple(classes) != own:
            raise PreflightError(
                f'{owner} was trained with the classes ({shorten(classes)}), but the '
                f'{loader}_dataloader has ({shorten(own)}): give it the same, in the same order. '
                'The categories of annotation files are matched by name')


def _class_count_problems(source: Source, cfg: Any) -> List[str]:
    if source.classes is None:
        return []
    origin = source.ann_file or next(iter(source.folders.values()), source.root)
    return [f'{where}={number}, but the data set of {origin} has {len(source.classes)} classes'
            f' ({shorten(source.classes)})'
            for where, number in _num_classes(cfg.get('model') or {}, 'model')
            if number != len(source.classes)]


def _num_classes(model: Any, where: str) -> Iterator[Tuple[str, int]]:
    """Every num_classes in a model's config, except for class-agnostic proposals."""
    if isinstance(model, dict):
        for key, value in model.items():
            if key == 'num_classes' and isinstance(value, int):
                yield f'{where}.{key}', value
            elif key != 'rpn_head':
                yield from _num_classes(value, f'{where}.{key}')
    elif isinstance(model, (list, tuple)):
        for i, item in enumerate(model):
            yield from _num_classes(item, f'{where}[{i}]')


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value] if value else []
