"""A config for a data set of one's own in COCO's format, after a look at the data."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Optional, Union

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ..utils.configs import config_directory
from ..utils.fileio import atomic_path
from ..utils.libraries import PreflightError, check_library
from .preflight import check_data
from .preflight.coco import read_annotations

__all__ = ['CocoSplit', 'read_split', 'write_custom_config']

BASES = tuple(f'ssdlite_mobileone_s{i}_coco' for i in range(5))
BASE_BATCH_SIZE, BASE_LR = 192, .05  # of the COCO configs
WARMUP, EMA_MOMENTUM = 4500, 5e-4  # likewise

TEMPLATE = '''\
"""SSDLite on a data set of one's own; written by tools/custom_coco.py, to be edited at will.

{train}
{val}
"""
_base_ = {base!r}
{imports}
classes = {classes!r}
metainfo = dict(classes=classes)
model = dict(
{init}    bbox_head=dict(num_classes=len(classes)))
train_dataloader = dict(
    batch_size={batch_size},
    num_workers=2,
    dataset=dict(
        data_root='', metainfo=metainfo,
        ann_file={train_file!r},
        data_prefix=dict(img={train_images!r})))
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        data_root='', metainfo=metainfo,
        ann_file={val_file!r},
        data_prefix=dict(img={val_images!r})))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={val_file!r})
test_evaluator = val_evaluator

# {iterations:,} iterations in all: {epochs} epochs of {per_epoch}.
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
{optimizer}
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end={warmup}),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, convert_to_iter_based=True)
]
custom_hooks = [
    dict(  # an average over about a tenth of the training, at most as long as in the base config
        type='EMAHook', ema_type='ExponentialMovingAverage', momentum={ema:.2g},
        update_buffers=True, priority=49),
    dict(type='NumClassCheckHook'),
    dict(type='CheckInvalidLossHook', interval=50, priority='VERY_LOW')
]
default_hooks = dict(logger=dict(interval={log_interval}))
'''
FINE_TUNING = """\
# The base's rate, scaled to this batch size
optim_wrapper = dict(optimizer=dict(lr={lr:.3g}), clip_grad=dict(max_norm=35))"""
FROM_SCRATCH = """\
# From scratch AdamW needs fewer iterations than SGD
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=35))"""
SCRATCH_IMPORTS = """\
"""
SCRATCH_INIT = """\
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')
        ]),
"""


@dataclass(frozen=True)
class CocoSplit:
    """An annotation file and what it holds.

    Attributes:
        path: The file.
        images: Folder to which its file names are relative.
        num_images: Images listed.
        boxes: Number of boxes, crowds left out, by class name, in the file's order.
        file_names: Of the images.
    """

    path: Path
    images: Path
    num_images: int
    boxes: Dict[str, int]
    file_names: FrozenSet[str]

    def __str__(self) -> str:
        counts = ', '.join(f'{name} {count:,}' for name, count in self.boxes.items())
        return f'{self.path}: {self.num_images:,} images; boxes: {counts}'


def read_split(path: Union[str, Path], images: Union[str, Path]) -> CocoSplit:
    """Read an annotation file and check what it says of its boxes.

    Args:
        path: COCO annotations.
        images: Folder to which its ``file_name`` fields are relative.

    Raises:
        PreflightError: The file or the folder is missing, the file is damaged, an annotation has
            no valid box or refers to an image or a category that is not listed, a category name
            comes twice, or there are no boxes at all.
    """
    path, images = Path(path).absolute(), Path(images).absolute()
    for kind, exists in ((path, path.is_file()), (images, images.is_dir())):
        if not exists:
            what = 'file of annotations' if kind is path else 'folder of images'
            raise PreflightError(f'{kind}: no such {what}')
    try:
        content = read_annotations(path)
        boxes = _count_boxes(content)
    except ValueError as error:
        message = str(error)
        raise PreflightError(
            message if message.startswith(str(path)) else f'{path}: {message}') from error
    return CocoSplit(path, images, len(content['images']), boxes,
                     frozenset(image['file_name'] for image in content['images']))


def _count_boxes(content: Dict[str, Any]) -> Dict[str, int]:
    try:
        names = {category['id']: category['name'] for category in content['categories']}
        image_ids = {image['id'] for image in content['images'] if image['file_name']}
    except (KeyError, TypeError) as error:
        raise ValueError(f'an image or a category lacks the field {error}') from error
    twice = [name for name, count in Counter(
        category['name'] for category in content['categories']).items() if count > 1]
    if twice or len(names) < len(content['categories']):
        raise ValueError(f'a category comes twice: {twice[0] if twice else "the same id"}')
    counts = dict.fromkeys(names.values(), 0)
    for annotation in content['annotations']:
        problem = _annotation_problem(annotation, names, image_ids)
        if problem:
            raise ValueError(f'the annotation with id {annotation.get("id")!r} {problem}')
        counts[names[annotation['category_id']]] += not annotation.get('iscrowd', 0)
    if not any(counts.values()):
        raise ValueError('holds no boxes')
    return counts


def _annotation_problem(annotation: Dict[str, Any], names: Dict[int, str],
                        image_ids: set) -> Optional[str]:
    absent = [key for key in ('image_id', 'category_id', 'bbox', 'area') if key not in annotation]
    if absent:
        return f'lacks {absent[0]}'
    if annotation['image_id'] not in image_ids:
        return f'has image_id {annotation["image_id"]}, which is not among the images'
    if annotation['category_id'] not in names:
        return f'has category_id {annotation["category_id"]}, which is not among the categories'
    box = annotation['bbox']
    if not (isinstance(box, list) and len(box) == 4 and box[2] > 0 and box[3] > 0):
        return f'has bbox {box}: expected [x, y, width, height] in pixels, both sizes above 0'
    return None


def write_custom_config(train: CocoSplit, val: CocoSplit, out: Union[str, Path],
                        base: str = 'ssdlite_mobileone_s1_coco', epochs: int = 50,
                        batch_size: int = 24, from_scratch: bool = False) -> List[str]:
    """Write a config that trains SSDLite on the two splits.

    Args:
        train: To train on.
        val: To validate and test on.
        out: The config to write, ``*.py``; its folder is made.
        base: One of the package's COCO configs of SSDLite, without ``.py``.
        epochs: Passes over ``train``.
        batch_size: Images of an iteration on one GPU.
        from_scratch: Begin at random weights in place of those for ImageNet.

    Returns:
        What is odd about the data without being an error.

    Raises:
        PreflightError: An argument or the data are not good for training; nothing is written.
    """
    out = Path(out)
    if out.suffix != '.py':
        raise PreflightError(f'--out {out}: expected a name that ends with .py')
    if base not in BASES:
        raise PreflightError(f'--base {base}: expected one of {", ".join(BASES)}')
    for name, value in (('--epochs', epochs), ('--batch-size', batch_size)):
        if value < 1:
            raise PreflightError(f'{name} {value}: expected at least 1')
    base_file = config_directory('detection') / f'{base}.py'
    settings = dict(_schedule(train, epochs, batch_size), train=train, val=val,
                    classes=tuple(train.boxes), batch_size=batch_size, epochs=epochs,
                    train_file=str(train.path), train_images=str(train.images),
                    val_file=str(val.path), val_images=str(val.images),
                    imports=SCRATCH_IMPORTS if from_scratch else '',
                    init=SCRATCH_INIT if from_scratch else '')
    optimizer = FROM_SCRATCH if from_scratch else FINE_TUNING
    settings['optimizer'] = optimizer.format(lr=BASE_LR * batch_size / BASE_BATCH_SIZE)
    _check(TEMPLATE.format(base=base_file.as_posix(), **settings))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as path:
        path.write_text(TEMPLATE.format(base=_reference(base_file, out), **settings),
                        encoding='utf-8')
    return _oddities(train, val)


def _schedule(train: CocoSplit, epochs: int, batch_size: int) -> Dict[str, Any]:
    """What has to be shorter than in the COCO recipe where there are fewer iterations."""
    per_epoch = -(-train.num_images // batch_size)
    iterations = epochs * per_epoch
    return dict(per_epoch=per_epoch, iterations=iterations, val_interval=max(1, epochs // 10),
                warmup=min(WARMUP, max(2, iterations // 10)),
                ema=min(.5, max(EMA_MOMENTUM, 10 / iterations)),
                log_interval=min(50, max(1, per_epoch // 4)))


def _check(text: str) -> None:
    """The checks that tools/train.py makes as well: classes, their order, images."""
    check_library('mmdet')
    cfg = Config.fromstring(text, '.py')
    import_modules_from_strings(**cfg.custom_imports)
    check_data(cfg, ('train', 'val'))


def _reference(base: Path, out: Path) -> str:
    """Relative within a clone, which may be moved; else absolute."""
    clone, target = base.parents[2], out.resolve()
    if clone in target.parents and clone.name != '.mim':
        return Path(os.path.relpath(base, target.parent)).as_posix()
    return base.as_posix()


def _oddities(train: CocoSplit, val: CocoSplit) -> List[str]:
    found = [f'{split.path} has no box of {name}' for split in (train, val)
             for name, count in split.boxes.items() if not count]
    if train.images == val.images:
        shared = len(train.file_names & val.file_names)
        if shared:
            found.append(f'{shared} images are in both files: metrics will be too good')
    return found
