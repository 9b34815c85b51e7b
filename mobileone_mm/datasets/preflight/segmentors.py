"""Check settings of segmentors that would stop a run late or make it learn nothing."""

import os
from typing import Any, Dict, Iterator, List, Tuple

from ...utils.configs import type_name
from ...utils.wrapped import count_samples
from .source import Source

# Heads that pool whole images: their batch norm sees one value per image and channel.
POOLING_HEADS = ('ASPPHead', 'DeepLabV3Head', 'DepthwiseSeparableASPPHead', 'PSPHead', 'UPerHead')


def segmentor_problems(cfg: Any, training: bool) -> List[str]:
    """What is wrong with the settings; empty if nothing is.

    Args:
        cfg: A config of mmsegmentation whose data exist.
        training: Whether it is for training.
    """
    model = cfg.get('model') or {}
    problems = _window_problems(model.get('test_cfg') or {})
    for where, head in _heads(model):
        if head.get('num_classes') == 1 and not _is_binary(head):
            problems.append(
                f'{where}.num_classes=1: the softmax over one class is always 1, so nothing is '
                "learned; the background is a class too: num_classes=2 and metainfo=dict(classes=("
                "'background', 'NAME')), with labels 0 and 1")
            break
    return problems + (_batch_problems(cfg, model) if training else [])


def _window_problems(test_cfg: Dict[str, Any]) -> List[str]:
    if test_cfg.get('mode') != 'slide':
        return []
    crop, stride = test_cfg.get('crop_size'), test_cfg.get('stride')
    if not crop or not stride:
        return ["model.test_cfg.mode='slide' needs crop_size=(h, w) and stride=(h, w)"]
    if any(not 0 < step <= side for side, step in zip(crop, stride)):
        return [f'model.test_cfg: stride={tuple(stride)} leaves pixels between windows of '
                f'crop_size={tuple(crop)} unseen: choose a stride of at most crop_size, such as '
                f'{tuple(side * 2 // 3 for side in crop)}']
    return []


def _batch_problems(cfg: Any, model: Dict[str, Any]) -> List[str]:
    """Batches of one image, on which batch norms raise in training, and epochs without a batch."""
    loader = cfg.get('train_dataloader')
    if not loader:
        return []
    size, drop_last = loader.get('batch_size', 1), loader.get('drop_last')
    processes = int(os.environ.get('WORLD_SIZE', 1))
    scope = cfg.get('default_scope')
    samples = count_samples(loader.get('dataset') or {},
                            lambda dataset: len(Source(dataset, scope).samples() or ()))
    images = -(-(samples or 0) // processes)
    endless = 'Infinite' in str((loader.get('sampler') or {}).get('type'))
    if drop_last and not endless and 0 < images < size:
        return [f'the train_dataloader has {images} images and batch_size={size} with '
                f'drop_last=True, so there is no batch: set train_dataloader.batch_size to at most '
                f'{images}, or repeat the data with RepeatDataset']
    heads = [where for where, head in _heads(model)
             if type_name(head) in POOLING_HEADS and head.get('norm_cfg')]
    if not heads or processes > 1 and cfg.get('sync_bn'):
        return []
    what = ''
    if size == 1:
        what = 'train_dataloader.batch_size=1'
    elif not endless and not drop_last and images % size == 1:
        what = f'{images} images in batches of {size}: the last batch has one image'
    return [f"{what}: the batch norm of {heads[0]}'s pooled images needs 2 or more; set "
            'train_dataloader.batch_size to 2 or more and train_dataloader.drop_last=True'
            ] if what else []


def _heads(model: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key) or []
        for i, head in enumerate(heads if isinstance(heads, (list, tuple)) else [heads]):
            yield f'model.{key}' + (f'[{i}]' if isinstance(heads, (list, tuple)) else ''), head


def _is_binary(head: Dict[str, Any]) -> bool:
    losses = head.get('loss_decode') or {}
    return all(loss.get('use_sigmoid', 'Dice' in str(loss.get('type'))) for loss in (
        losses if isinstance(losses, (list, tuple)) else [losses]))
