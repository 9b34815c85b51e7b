"""Write the config that trains SSDLite on a user's data set."""

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from mmengine.config import Config

from ...utils.configs import config_directory
from ...utils.fileio import atomic_path
from ...utils.libraries import PreflightError, check_library
from ..coco_files import match_categories
from ..written_config import fill
from .levels import BASE_SIZE, Levels, plan_levels, too_small
from .schedule import BASE_BATCH_SIZE, BASE_LR, plan_schedule, too_short
from .split import MIN_SIZE, CocoSplit
from .template import assemble

__all__ = ['BASES', 'write_custom_config']

BASES = tuple(f'ssdlite_mobileone_s{i}_coco' for i in range(5))


def write_custom_config(train: CocoSplit, val: CocoSplit, out: Union[str, Path],
                        base: str = 'ssdlite_mobileone_s1_coco', *, epochs: int = 50,
                        batch_size: Optional[int] = None, from_scratch: bool = False,
                        input_size: Optional[int] = None, workers: int = 2,
                        checkpoint: Optional[str] = None) -> List[str]:
    """Write a config that trains SSDLite on the two splits.

    Repaired annotations are written to files beside the config, which then reads them.

    Args:
        train: The training data.
        val: The data to validate and test on.
        out: The config to write, ``*.py``; its folder is created.
        base: One of the package's SSDLite configs for COCO, without ``.py``.
        epochs: Number of epochs.
        batch_size: Images per GPU and iteration. Defaults to 24, or 8 from scratch.
        from_scratch: Whether to start from random weights instead of ImageNet weights.
        input_size: Width and height to which images are resized, a multiple of 32; feature maps
            and anchors follow. Defaults to 320, or 192 from scratch.
        workers: Processes that load images, per data loader.
        checkpoint: Path or URL of weights for the backbone, instead of ImageNet weights.

    Returns:
        What was repaired, left out, or is unusual but not an error, one line each.

    Raises:
        PreflightError: An argument or the data cannot be used for training; nothing is written.
    """
    out = Path(out)
    batch_size = batch_size if batch_size is not None else (8 if from_scratch else 24)
    input_size = input_size if input_size is not None else (192 if from_scratch else BASE_SIZE)
    _check_arguments(out, base, epochs, batch_size, workers, from_scratch, checkpoint)
    match_categories(val.file, train.classes)
    levels = plan_levels(base.split('_')[2], input_size, from_scratch)
    counts = train.counts(train.classes, training=True)
    counts.require(train.path)
    drop_last = _drop_last(counts.images, batch_size, levels)
    schedule = plan_schedule(counts.images - drop_last, epochs, batch_size)
    if checkpoint and not _is_remote(checkpoint):
        checkpoint = str(Path(checkpoint).absolute())
    start = 'checkpoint' if checkpoint else 'scratch' if from_scratch else 'ImageNet'
    settings: Dict[str, Any] = dict(
        vars(schedule), classes=tuple(train.classes), batch_size=batch_size, workers=workers,
        persistent=workers > 0, drop_last=bool(drop_last), min_size=MIN_SIZE,
        drop_negatives=not train.keep_negatives, checkpoint=checkpoint,
        lr=4e-3 if from_scratch else float(f'{BASE_LR * batch_size / BASE_BATCH_SIZE:.3g}'),
        start_factor=.01 if from_scratch else .001, input_size=(input_size, input_size),
        train_images=train.images, val_images=val.images, **_level_settings(levels))
    files = {name: _annotation_file(split, out, name)
             for name, split in (('train', train), ('val', val))}
    base_file = config_directory('detection') / f'{base}.py'
    settings.update({f'{name}_file': path for name, path in files.items()})
    template = assemble(start, levels is not None)
    check_library('mmdet')
    Config.fromstring(fill(template, base=base_file.as_posix(), **settings), '.py')
    out.parent.mkdir(parents=True, exist_ok=True)
    notes = [split.file.write(files[name]) for name, split in (('train', train), ('val', val))
             if split.file.repairs]
    with atomic_path(out) as path:
        path.write_text(fill(template, base=_reference(base_file, out), **settings),
                        encoding='utf-8')
    if drop_last:
        notes.append('the last batch of an epoch would have one image: it is left out')
    return [*notes, *_data_notes(train, val), *too_small(train, input_size, levels),
            *too_short(schedule, from_scratch)]


def _check_arguments(out: Path, base: str, epochs: int, batch_size: int, workers: int,
                     from_scratch: bool, checkpoint: Optional[str]) -> None:
    if out.suffix != '.py':
        raise PreflightError(f'--out {out}: expected a name that ends with .py')
    if base not in BASES:
        raise PreflightError(f'--base {base}: expected one of {", ".join(BASES)}')
    for name, value, least in (('--epochs', epochs, 1), ('--batch-size', batch_size, 1),
                               ('--workers', workers, 0)):
        if value < least:
            raise PreflightError(f'{name} {value}: expected at least {least}')
    if checkpoint and from_scratch:
        raise PreflightError('--checkpoint and --from-scratch exclude each other')
    if checkpoint and not _is_remote(checkpoint) and not Path(checkpoint).is_file():
        raise PreflightError(f'--checkpoint {checkpoint}: there is no such file')


def _is_remote(checkpoint: str) -> bool:
    return '://' in checkpoint


def _drop_last(images: int, batch_size: int, levels: Optional[Levels]) -> int:
    """Images in a last batch that batch norms cannot train on: 1, or 0 without such a batch."""
    one_cell = levels is None or levels.strides[-1] == levels.sizes[-1]
    if one_cell and 1 in (images, batch_size):
        what = f'--batch-size {batch_size}' if batch_size == 1 else '1 image to train on'
        raise PreflightError(f'{what}: batch norms on a map of one cell need two images: expected '
                             'at least 2')
    return int(batch_size > 1 and images > batch_size and images % batch_size == 1)


def _level_settings(levels: Optional[Levels]) -> Dict[str, Any]:
    if levels is None:
        return {}
    own = len(levels.out_indices)
    extra = len(levels.channels) - own
    return dict(
        out_indices=levels.out_indices, in_channels=levels.channels[:own],
        channels=levels.channels, level_strides=(2, ) * extra, level_paddings=(1, ) * extra,
        strides=list(levels.strides), ratios=[list(levels.ratios)] * len(levels.channels),
        min_sizes=list(levels.sizes[:-1]), max_sizes=list(levels.sizes[1:]))


def _annotation_file(split: CocoSplit, out: Path, name: str) -> Path:
    if not split.file.repairs:
        return split.path
    return out.absolute().with_name(f'{out.stem}_{name}.repaired.json')


def _reference(base: Path, out: Path) -> str:
    """Relative within a clone, which may be moved; otherwise absolute."""
    clone, target = base.parents[2], out.resolve()
    if clone in target.parents and clone.name != '.mim':
        return Path(os.path.relpath(base, target.parent)).as_posix()
    return base.as_posix()


def _data_notes(train: CocoSplit, val: CocoSplit) -> List[str]:
    found = [*train.file.notes, *val.file.notes]
    left_out = train.counts(train.classes, training=True).left_out()
    if left_out:
        found.append(f'{train.path}: training leaves out {left_out}')
    if train.keep_negatives:
        found.append('images without boxes are trained on, but SSD draws its negatives in '
                     'proportion to the objects of an image: they only affect batch norms')
    found += [f'{split.path} has no box of {name}' for split in (train, val)
              for name, number in split.boxes.items() if not number]
    if train.images == val.images:
        names = [{image['file_name'] for image in split.file.content['images']}
                 for split in (train, val)]
        shared = len(names[0] & names[1])
        if shared:
            found.append(f'{shared} images are in both files: metrics will be too good')
    return found
