"""A config of DeepLabV3 for a data set of one's own in images and masks."""

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

__all__ = ['BASES', 'SegOptions', 'check_options', 'write_custom_seg']

BASES = tuple(f'deeplabv3_mobileone_s{i}_voc12aug' for i in range(5))
BASE_BATCH_SIZE, BASE_LR, SCRATCH_LR = 64, 9e-4, 2e-3  # of the VOC configs; of those from scratch
WARMUP, EMA_MOMENTUM = 500, 5e-4  # of the VOC configs
MAX_INPUT = 512  # likewise
FEW_ITERATIONS, FEW_FROM_SCRATCH = 300, 2000

TEMPLATE = '''\
"""DeepLabV3 on a data set of one's own; written by tools/custom_seg.py, to be edited at will."""
_base_ = {base}
{imports}
metainfo = dict(
    classes={classes},
    palette={palette})
num_classes = {num_classes}
crop_size = ({size}, {size})
model = dict(
    data_preprocessor=dict(size=crop_size),
{init}    decode_head=dict(
        num_classes=num_classes,
        dilations={dilations}{weights}),
    auxiliary_head=dict(num_classes=num_classes{auxiliary_weights}){test_cfg})

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    {train_resize},
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),{test_resize}
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
train_set = dict(
    type='ListedSegDataset', metainfo=metainfo, ann_file={train_list},
    data_prefix=dict(img_path={train_images}, seg_map_path={train_masks}),
    pipeline=train_pipeline)
val_set = dict(
    type='ListedSegDataset', metainfo=metainfo, ann_file={val_list},
    data_prefix=dict(img_path={val_images}, seg_map_path={val_masks}),
    pipeline=test_pipeline)
train_dataloader = dict(
    batch_size={batch_size},
    num_workers={workers},
    persistent_workers={persistent},
    # A last batch of one image would stop the batch norm of DeepLabV3's image pooling.
    drop_last=True,
    dataset={train_dataset})
val_dataloader = dict(
    num_workers={workers}, persistent_workers={persistent}, dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader

# {iterations:,} iterations in all: {epochs} epochs of {per_epoch}.
train_cfg = dict(max_epochs={epochs}, val_interval={val_interval})
{optimizer}
auto_scale_lr = dict(base_batch_size={batch_size})  # the rate is scaled already
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end={warmup}),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-3, by_epoch=True, begin=0,
         convert_to_iter_based=True)
]
custom_hooks = [
    dict(  # an average over about a tenth of the training, at most as long as in the base config
        type='EMAHook', ema_type='ExponentialMovingAverage', momentum={ema:.2g},
        update_buffers=True, priority=49)
]
default_hooks = dict(logger=dict(interval={log_interval}))
'''
FINE_TUNING = """\
# The base's rate, scaled with the square root of the batch size, as fits AdamW
optim_wrapper = dict(optimizer=dict(lr={lr:.3g}))"""
FROM_SCRATCH = """\
# From scratch the heads learn as fast as the backbone
optim_wrapper = dict(
    optimizer=dict(lr={lr:.3g}), paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.))"""
SCRATCH_IMPORTS = """\
custom_imports = dict(
    imports=['mobileone_mm.segmentation', 'mobileone_mm.backbones.initializers'],
    allow_failed_imports=False)
"""
SCRATCH_INIT = """\
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
            dict(type='SkipInit')
        ]),
"""
RESIZE = "dict(type='Resize', scale={scale}, keep_ratio=True),"
RANDOM_RESIZE = ("dict(type='RandomResize', scale={scale}, ratio_range=(0.5, 1.5), "
                 'keep_ratio=True)')
RANDOM_FACTOR = """dict(
        type='RandomChoice',
        transforms=[[dict(type='Resize', scale_factor=factor)] for factor in (0.75, 1.0, 1.25)])"""


@dataclass(frozen=True)
class SegOptions:
    """How to train.

    Attributes:
        base: One of :data:`BASES`.
        epochs: Passes over the training images.
        batch_size: Images of an iteration on one GPU; at least 2, which the batch norm of
            DeepLabV3's image pooling needs.
        input_size: Side of the square crops in pixels; None chooses by the images.
        workers: Processes that load images.
        from_scratch: Begin at random weights in place of those for ImageNet.
        class_weights: Let rare classes count for more in the loss.
        slide: Test at the images' own size, window by window.
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
    """Check what can be checked before any data are read.

    Raises:
        PreflightError: A value is out of range, or ``out`` is no name for a config.
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
        prepared: What :func:`mobileone_mm.datasets.custom_seg.prepare.prepare` found.
        out: The config to write, ``*.py``; data go to ``*_data`` beside it.
        options: How to train.
        progress: Whether to show bars.

    Returns:
        What the user should know.

    Raises:
        PreflightError: An option or the data are not good for training; no config is written.
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
        imports=SCRATCH_IMPORTS if options.from_scratch else '',
        init=SCRATCH_INIT if options.from_scratch else '', optimizer=optimizer.format(lr=rate),
        train_resize=RANDOM_FACTOR if options.slide else RANDOM_RESIZE.format(scale=scale),
        test_resize='' if options.slide else '\n    ' + RESIZE.format(scale=scale),
        **{f'{split.name}_{key}': literal(str(path)) for split in (train, val)
           for key, path in dict(list=data / f'{split.name}.json', images=split.folders.images,
                                 masks=split.folders.masks).items()})


def _schedule(images: int, options: SegOptions) -> Dict[str, Any]:
    """What has to be shorter than in the VOC recipe where there are fewer iterations."""
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
    """The recipe's, or where images are smaller their usual short side, a multiple of 32."""
    usual = median(min(look.image_size) for look in split.looks.values())
    return int(min(MAX_INPUT, max(64, -(-usual // 32) * 32)))


def _dilations(size: int) -> Tuple[int, int, int, int]:
    """The recipe's for 512 pixels, smaller where maps are: wider taps would see padding only."""
    rate = max(2, min(6, size // 16 // 5))
    return 1, rate, 2 * rate, 3 * rate


def _class_weights(pixels: np.ndarray) -> str:
    """Weights 1 / ln(1.02 + share) (ENet, arXiv 1606.02147), such that pixels weigh 1 on average.

    A class that does not occur weighs 0, as no pixel is of it.
    """
    shares = pixels[:-1] / pixels[:-1].sum()
    weights = np.where(shares > 0, 1 / np.log(1.02 + shares), 0)
    weights = weights / (weights * shares).sum()
    return ("_delete_=True, type='WeightedCrossEntropyLoss', "
            f'class_weight={[round(float(w), 4) for w in weights]}')


def _check(text: str) -> None:
    """The checks that tools/train.py makes as well."""
    check_library('mmseg')
    cfg = Config.fromstring(text, '.py')
    import_modules_from_strings(**cfg.custom_imports)
    check_data(cfg, ('train', 'val'))


def _reference(base: Path, out: Path) -> str:
    """Relative within a clone, which may be moved; else absolute."""
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
