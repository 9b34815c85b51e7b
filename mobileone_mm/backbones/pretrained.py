"""Initialize a backbone from a checkpoint: ``init_cfg=dict(type='Pretrained', ...)``."""

import logging
import re
from os import PathLike
from typing import Dict, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model import BaseModule

from ..utils.checkpoint_files import (
    CheckpointError,
    StateDict,
    check_finite,
    is_folded,
    read_checkpoint,
    unwrap,
)
from ..utils.messages import shorten
from .archs import ARCHS, MobileOneArch
from .checkpoint_names import check_form, prefix_advice, to_apple_names
from .unfold import unfold as unfold_into

__all__ = ['load_pretrained']


def load_pretrained(backbone: BaseModule,
                    checkpoint: Union[str, PathLike],
                    prefix: Optional[str] = None,
                    unfold: bool = False,
                    weights_only: bool = True,
                    sha256: Optional[str] = None,
                    map_location: str = 'cpu') -> None:
    """Initialize a backbone from a checkpoint of Apple, mmpretrain, timm, cvnets or this package.

    Everything is checked before any weight changes. The options are those of
    ``init_cfg=dict(type='Pretrained', ...)``.

    Args:
        backbone: A MobileOne of the same arch as the checkpoint.
        checkpoint: Path or URL.
        prefix: Only take keys with this prefix; by default ``backbone.`` if any key has it.
        unfold: Initialize an unfolded backbone from a folded file, with equal outputs in eval
            mode. See :func:`mobileone_mm.backbones.unfold.unfold`.
        weights_only: ``False`` also unpickles arbitrary objects; use it only for files you trust.
        sha256: The file's SHA-256 sum, or at least its first 8 digits; by default the hash in its
            name, if OpenMMLab's style of name has one.
        map_location: Accepted for mmengine and ignored: weights go to the backbone's device.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is unreadable, belongs to another architecture or to the other
            form, or holds NaN.
    """
    name = str(checkpoint)
    print_log(f'load MobileOne backbone from: {name}', logger='current')
    weights = unwrap(read_checkpoint(checkpoint, weights_only, sha256), name)
    state_dict = to_apple_names(weights, prefix)
    if not _stage_channels(state_dict):
        raise CheckpointError(f'{name} holds no MobileOne backbone{prefix_advice(weights)}; its '
                              f'keys: {shorten(weights, 3)}')
    _check_arch(state_dict, backbone.arch, name)
    check_finite(state_dict, name)
    if not backbone.arch.num_se_blocks[-1]:
        state_dict = _drop_squeeze_excite(state_dict, name)
    if unfold and is_folded(state_dict) and not backbone.deploy:
        unfold_into(backbone, state_dict)
        return
    check_form(state_dict, '', backbone.deploy, name)
    _check_keys(state_dict, backbone.state_dict(), name)
    backbone.load_state_dict(state_dict, strict=False)


def _stage_channels(state_dict: StateDict) -> Tuple[int, ...]:
    """Output channels of the stem and the stages in a state dict, in order."""
    channels: Dict[int, Tuple[int, int]] = {}
    pattern = re.compile(r'^stage(\d)\.(?:(\d+)\.)?(?:rbr_conv\.0\.conv|reparam_conv)\.weight$')
    for key, value in state_dict.items():
        match = pattern.match(key)
        if match:
            stage, block = int(match[1]), int(match[2] or 0)
            if block >= channels.get(stage, (0, 0))[0]:
                channels[stage] = block, len(value)
    return tuple(channels[stage][1] for stage in sorted(channels))


def _describe(channels: Tuple[int, ...]) -> str:
    for name, arch in ARCHS.items():
        if channels == (arch.stem_channels, *arch.stage_channels):
            return f'a MobileOne-{name.upper()}'
    return f'a net with the stem and stage widths {channels}'


def _check_arch(state_dict: StateDict, arch: MobileOneArch, name: str) -> None:
    found = _stage_channels(state_dict)
    expected = (arch.stem_channels, *arch.stage_channels)
    if found != expected:
        raise CheckpointError(f'{name} holds {_describe(found)}, but the backbone is '
                              f'{_describe(expected)}: change arch, or use another file')


def _drop_squeeze_excite(state_dict: StateDict, name: str) -> StateDict:
    kept = {k: v for k, v in state_dict.items() if '.se.' not in k}
    if len(kept) < len(state_dict):
        print_log(f'{name} has squeeze-and-excitation and the backbone has none: left out',
                  logger='current', level=logging.WARNING)
    return kept


def _check_keys(state_dict: StateDict, own: StateDict, name: str) -> None:
    missing = [k for k in own if k not in state_dict and not k.endswith('num_batches_tracked')]
    unexpected = [k for k in state_dict if k not in own]
    shapes = [f'{k}: {tuple(v.shape)} in the file, {tuple(own[k].shape)} in the backbone'
              for k, v in state_dict.items() if k in own and v.shape != own[k].shape]
    problems = [f'{len(keys)} {what}, such as {keys[0]}' for what, keys in (
        ('missing from the file', missing), ('unknown to the backbone', unexpected),
        ('of another shape', shapes)) if keys]
    if problems:
        raise CheckpointError(
            f'{name} does not fit the backbone ({"; ".join(problems)}): in_channels, '
            'num_conv_branches, use_se and the branch switches must be those of the file')
