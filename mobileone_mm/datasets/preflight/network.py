"""Check that the network fits its input: batches of one image, anchors, sizes."""

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, cast

import torch
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...engine.hooks.freeze_norm_hook import FreezeNormHook
from ...folding.reparameterize import unwrap_model
from ...utils.libraries import PreflightError

__all__ = ['check_network']

RESIZES = ('Resize', 'RandomCrop', 'CenterCrop')


class Shapes(NamedTuple):
    """What an image of the training size becomes in the network."""

    single: List[str]  # batch norms that see one value per channel
    maps: List[Tuple[int, int]]  # maps that the box head predicts on, (height, width)


def check_network(runner: Runner, train_samples: Optional[int]) -> List[str]:
    """Avoid training batches that batch norms refuse, and report sizes that do not match.

    A batch norm on a 1x1 map cannot train on one image. If an epoch would end with such a batch,
    the runner's loader drops it.

    Args:
        runner: Built, but not training yet.
        train_samples: Samples per epoch, over all processes; None if unknown.

    Returns:
        What was changed or is unusual, one line each.

    Raises:
        PreflightError: All batches have one image, and the network cannot train on it.
    """
    cfg = runner.cfg
    size, val_size = (_input_size(cfg.get(f'{loader}_dataloader')) for loader in ('train', 'val'))
    if size is None:
        return []
    notes = []
    if val_size not in (None, size) and cfg.get('default_scope') == 'mmdet':
        notes.append(f'training resizes images to {size}, validation to {val_size} (width, '
                     'height): set both pipelines alike, unless that is meant')
    model = unwrap_model(runner.model)
    shapes = _trace(model, size)
    if shapes is None:
        return notes
    single = [name for name in shapes.single if not _is_frozen(name, runner)]
    if single:
        notes += _avoid_single_image(runner, train_samples, single)
    return notes + _anchor_notes(model, shapes.maps, size)


def _input_size(dataloader: Any) -> Optional[Tuple[int, int]]:
    """Width and height at the end of a data set's pipeline; None if they vary."""
    dataset = (dataloader or {}).get('dataset') or {}
    while 'pipeline' not in dataset and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    for step in reversed(dataset.get('pipeline') or []):
        size = step.get('crop_size') or step.get('scale')
        if step.get('type') in RESIZES and not step.get('keep_ratio') and size:
            size = (size, size) if isinstance(size, int) else tuple(size)
            return size if all(isinstance(side, int) for side in size) else None
    return None


def _trace(model: nn.Module, size: Tuple[int, int]) -> Optional[Shapes]:
    """Run a blank picture through a model in eval mode; None for unknown kinds of models."""
    single: List[str] = []
    maps: List[Tuple[int, int]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            if args[0].numel() == args[0].shape[1] and name in trained:
                single.append(name)
        return hook

    if not hasattr(model, 'extract_feat'):
        return None
    model.train()  # some leave their norms in eval mode
    trained = {name for name, module in model.named_modules() if module.training}
    handles = [module.register_forward_pre_hook(note(name))
               for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    try:
        with _eval_mode(model), torch.no_grad():
            parameter = next(model.parameters())
            features = cast(Any, model).extract_feat(parameter.new_zeros(1, 3, size[1], size[0]))
            head = getattr(model, 'bbox_head', getattr(model, 'decode_head', None))
            if head is not None:
                outputs = head(features)
                if hasattr(model, 'bbox_head') and isinstance(outputs, (tuple, list)):
                    maps = [tuple(score.shape[-2:]) for score in outputs[0]]
    except Exception:  # someone else's model with other inputs: nothing to check
        return None
    finally:
        for handle in handles:
            handle.remove()
    return Shapes(single, maps)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes: Dict[nn.Module, bool] = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _avoid_single_image(runner: Runner, samples: Optional[int], norms: List[str]) -> List[str]:
    loader: Any = runner._train_dataloader  # the config; the public attribute would build it
    batch, per_process = loader['batch_size'], None
    if samples is not None:
        per_process = math.ceil(samples / runner.world_size)
    if batch == 1 or per_process == 1:
        what = f'train_dataloader.batch_size={batch}' if batch == 1 else (
            f'{samples} training images for {runner.world_size} processes')
        raise PreflightError(
            f'{what}: one image is too few for the {len(norms)} batch norms with a 1x1 map '
            f'(such as {norms[-1]}). Set train_dataloader.batch_size to 2 or more with as many '
            'images, or freeze norms that come from a checkpoint: FreezeNormHook, docs/training.md')
    finite = 'Infinite' not in str((loader.get('sampler') or {}).get('type'))
    if per_process is None or per_process % batch != 1 or not finite:
        return []
    batches = loader.get('batch_sampler')
    (loader if batches is None else batches)['drop_last'] = True
    return ['the last batch of an epoch would have one image, too few for batch norms on 1x1 maps:'
            ' it is left out (drop_last), a different image each epoch']


def _is_frozen(norm: str, runner: Runner) -> bool:
    """Whether a FreezeNormHook keeps the norm in eval mode."""
    return any(norm.startswith(part) for hook in runner.hooks if isinstance(hook, FreezeNormHook)
               for part in hook.parts)


def _anchor_notes(model: nn.Module, maps: List[Tuple[int, int]],
                  size: Tuple[int, int]) -> List[str]:
    """Check that the centers and sizes of SSD's anchors fit the input."""
    generator: Any = getattr(getattr(model, 'bbox_head', None), 'prior_generator', None)
    strides = getattr(generator, 'strides', ())
    wrong = ''
    if len(strides) != len(maps):
        return []
    for level, ((height, width), stride) in enumerate(zip(maps, strides)):
        for cells, step, side in ((width, stride[0], size[0]), (height, stride[1], size[1])):
            if not side - step / 2 <= cells * step or (cells - 1) * step >= side or step > side:
                wrong = wrong or (f'level {level} has {width}x{height} cells of stride {stride[0]},'
                                  ' which do not cover it')
    if type(generator).__name__ == 'SSDAnchorGenerator':
        largest = max(float(box[2:].sub(box[:2]).prod().sqrt())
                      for level in generator.base_anchors for box in level)
        if not .5 <= largest / max(size) <= 1.25:
            wrong = wrong or f'the largest anchor has {largest:.0f} pixels'
    return [f'the anchors do not fit an input of {size[0]}x{size[1]}: {wrong}. '
            'tools/custom_coco.py --input-size sets both'] if wrong else []
