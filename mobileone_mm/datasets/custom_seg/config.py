"""A config of DeepLabV3 for a user's images and masks."""

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ...utils.configs import config_directory
from ...utils.fileio import atomic_path
from ...utils.libraries import PreflightError, check_library
from ..preflight import check_data
from ..written_config import literal
from .classes import display_palette
from .prepare import Prepared, Split, write_data
from .template import (
    FINE_TUNING,
    FROM_SCRATCH,
    RANDOM_FACTOR,
    RANDOM_RESIZE,
    RESIZE,
    SCRATCH_INIT,
    TEMPLATE,
)

__all__ = ['BASES', 'SegOptions', 'check_options', 'write_custom_seg']

BASES = tuple(f'deeplabv3_mobileone_s{i}_voc12aug' for i in range(5))
BASE_BATCH_SIZE, BASE_LR, SCRATCH_LR = 128, 9e-4, 2e-3  # of the VOC configs; of those from scratch
WARMUP, EMA_MOMENTUM = 500, 5e-4  # of the VOC configs
MAX_INPUT = 512  # likewise
FEW_ITERATIONS, FEW_FROM_SCRATCH = 300, 2000


@dataclass(frozen=True)
class SegOptions:
    """How to train.

    Attributes:
        base: One of :data:`BASES`.
        epochs: Number of epochs.
        batch_size: Images per GPU and iteration; at least 2, which the batch norm of DeepLabV3's
            image pooling needs.
        input_size: Side of the square crops in pixels; None chooses by the images.
        workers: Processes that load images.
        from_scratch: Whether to start from random weights instead of ImageNet weights.
        class_weights: Whether rare classes count for more in the loss.
        slide: Whether to test at the images' own size, window by window.
    """

    base: str = BASES[1]
    epochs: int = 50
    batch_size: int = 8
    input_size: Optional[int] = None
    workers: int = 2
    from_scratch: bool = False
    class_weights: bool = False
    slide: bool = False


def check_options(out: Union[str, Path], options: SegOptions) -> None:
    """Check the options before any data are read.

    Raises:
        PreflightError: A value is out of range, or ``out`` is not a name for a config.
    """
    if Path(out).suffix != '.py' or Path(out).is_dir():
        raise PreflightError(f'--out {out}: expected a file name that ends with .py')
    if options.base not in BASES:
        raise PreflightError(f'--base {options.base}: expected one of {", ".join(BASES)}')
    if options.batch_size == 1:
        raise PreflightError("--batch-size 1: the batch norm of DeepLabV3's image pooling needs at "
                             'least 2 images; choose a smaller --input-size if memory is short')
    least = dict(epochs=1, batch_size=2, workers=0, input_size=64)
    for name, value in least.items():
        given = getattr(options, name)
        if given is not None and given < value:
            raise PreflightError(f'--{name.replace("_", "-")} {given}: expected at least {value}')


def write_custom_seg(prepared: Prepared, out: Union[str, Path], options: SegOptions,
                     progress: bool = True) -> List[str]:
    """Write masks, lists and a config that trains DeepLabV3 on them.

    Args:
        prepared: The result of :func:`mobileone_mm.datasets.custom_seg.prepare.prepare`.
        out: The config to write, ``*.py``; data go to ``*_data`` beside it.
        options: How to train.
        progress: Whether to show progress bars.

    Returns:
        Notes for the user, one line each.

    Raises:
        PreflightError: An option or the data cannot be used for training; no config is written.
    """
    out = Path(out).absolute()
    check_options(out, options)
    base = config_directory('segmentation') / f'{options.base}.py'
    data = out.with_name(f'{out.stem}_data')
    train, val = write_data(prepared, data, progress)
    settings = _settings(prepared, train, val, data, options)
    _check(TEMPLATE.format(base=literal(base.as_posix()), **settings))
    with atomic_path(out) as path:
        path.write_text(TEMPLATE.format(base=literal(_reference(base, out)), **settings),
                        encoding='utf-8')
    return [*prepared.notes, *_oddities(prepared, settings['iterations'], options)]


def _settings(prepared: Prepared, train: Split, val: Split, data: Path, options: SegOptions
              ) -> Dict[str, Any]:
    classes = prepared.reading.classes
    size = options.input_size or _input_size(train)
    weights = _class_weights(train.pixels) if options.class_weights else ''
    rate = SCRATCH_LR if options.from_scratch else BASE_LR * (
        options.batch_size / BASE_BATCH_SIZE) ** .5
    optimizer = FROM_SCRATCH if options.from_scratch else FINE_TUNING
    test_cfg = (f",\n    test_cfg=dict(mode='slide', crop_size=crop_size, "
                f'stride=({size * 2 // 3}, {size * 2 // 3}))') if options.slide else ''
    scale = f'({4 * size}, {size})'
    return dict(
        _schedule(len(train.pairs), options), classes=literal(classes.names),
        palette=literal(display_palette(classes)), num_classes=len(classes.names), size=size,
        dilations=_dilations(size), batch_size=options.batch_size, epochs=options.epochs,
        workers=options.workers, persistent=options.workers > 0,
        weights=f',\n        loss_decode=dict({weights})' if weights else '', test_cfg=test_cfg,
        auxiliary_weights=f',\n        loss_decode=dict({weights}, loss_weight=0.4)'
        if weights else '',
        init=SCRATCH_INIT if options.from_scratch else '', optimizer=optimizer.format(lr=rate),
        train_resize=RANDOM_FACTOR if options.slide else RANDOM_RESIZE.format(scale=scale),
        test_resize='' if options.slide else '\n    ' + RESIZE.format(scale=scale),
        **{f'{split.name}_{key}': literal(str(path)) for split in (train, val)
           for key, path in dict(list=data / f'{split.name}.json', images=split.folders.images,
                                 masks=split.folders.masks).items()})


def _schedule(images: int, options: SegOptions) -> Dict[str, Any]:
    """Shorten what the VOC recipe makes too long for fewer iterations."""
    repeats = -(-options.batch_size // images)  # fewer images than a batch: each comes more often
    per_epoch = images * repeats // options.batch_size
    iterations = options.epochs * per_epoch
    dataset = 'dict(_delete_=True, **train_set)' if repeats == 1 else (
        f"dict(_delete_=True, type='RepeatDataset', times={repeats}, dataset=train_set)")
    return dict(train_dataset=dataset, per_epoch=per_epoch, iterations=iterations,
                val_interval=max(1, options.epochs // 10),
                warmup=min(WARMUP, max(2, iterations // 10)),
                ema=min(.5, max(EMA_MOMENTUM, 10 / iterations)),
                log_interval=min(50, max(1, per_epoch // 4)))


def _input_size(split: Split) -> int:
    """The recipe's size or, if images are smaller, their usual short side; a multiple of 32."""
    usual = median(min(look.image_size) for look in split.looks.values())
    return int(min(MAX_INPUT, max(64, -(-usual // 32) * 32)))


def _dilations(size: int) -> Tuple[int, int, int, int]:
    """The recipe's dilations for 512 pixels, smaller for small maps, which they would overshoot."""
    rate = max(2, min(6, size // 16 // 5))
    return 1, rate, 2 * rate, 3 * rate


def _class_weights(pixels: np.ndarray) -> str:
    """Weights 1 / ln(1.02 + share) (ENet, arXiv 1606.02147), such that pixels weigh 1 on average.

    A class that does not occur weighs 0, since no pixel has it.
    """
    shares = pixels[:-1] / pixels[:-1].sum()
    weights = np.where(shares > 0, 1 / np.log(1.02 + shares), 0)
    weights = weights / (weights * shares).sum()
    return ("_delete_=True, type='WeightedCrossEntropyLoss', "
            f'class_weight={[round(float(w), 4) for w in weights]}')


def _check(text: str) -> None:
    """Make the checks that tools/train.py also makes."""
    check_library('mmseg')
    cfg = Config.fromstring(text, '.py')
    import_modules_from_strings(**cfg.custom_imports)
    check_data(cfg, ('train', 'val'))


def _reference(base: Path, out: Path) -> str:
    """Relative within a clone, which may be moved; otherwise absolute."""
    clone = base.parents[2]
    if clone in out.resolve().parents and clone.name != '.mim':
        return Path(os.path.relpath(base, out.resolve().parent)).as_posix()
    return base.as_posix()


def _oddities(prepared: Prepared, iterations: int, options: SegOptions) -> List[str]:
    found = [f'{split.name} has no pixel of {name}' for split in (prepared.train, prepared.val)
             for name, count in zip(prepared.reading.classes.names, split.pixels) if not count]
    shared = {pair.image for pair in prepared.train.pairs} & {
        pair.image for pair in prepared.val.pairs}
    if shared:
        found.append(f'{len(shared):,} images are in train and val: metrics will be too good')
    few = FEW_FROM_SCRATCH if options.from_scratch else FEW_ITERATIONS
    if iterations < few:
        found.append(f'{iterations:,} iterations are few to learn from (at least {few:,} are '
                     'advised): raise --epochs or lower --batch-size')
    return found
