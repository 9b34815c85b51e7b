"""Reading everyone's MobileOne checkpoints: dictionaries in, dictionaries out, Apple's names."""

import errno
import logging
import pickle
import re
from os import PathLike
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from .archs import ARCHS, MobileOneArch
from .compat import safe_load_options

if TYPE_CHECKING:
    from .backbones import MobileOne

__all__ = [
    'CheckpointError', 'check_form', 'is_folded', 'load_pretrained', 'read_checkpoint',
    'to_apple_names', 'unwrap',
]

StateDict = Dict[str, Tensor]

# Where a training checkpoint keeps the weights, the averaged ones first (timm, mmengine, cvnets).
WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')

# Regular expressions, applied in order, that turn each code base's names into Apple's. The name
# sets do not overlap, so that one list serves all. cvnets' squeeze-and-excitation goes before its
# general '.block.' rules.
RENAMES: Tuple[Tuple[str, Union[str, Callable]], ...] = (
    # timm
    (r'^stem\.', 'stage0.'),
    (r'^stages\.(\d)\.', lambda m: f'stage{int(m[1]) + 1}.'),
    (r'\.conv_kxk\.', '.rbr_conv.'),
    (r'\.conv_scale\.', '.rbr_scale.'),
    (r'\.identity\.', '.rbr_skip.'),
    (r'\.attn\.fc1\.', '.se.reduce.'),
    (r'\.attn\.fc2\.', '.se.expand.'),
    # cvnets
    (r'^conv_1\.', 'stage0.'),
    (r'^layer_(\d)\.', lambda m: f'stage{int(m[1]) - 1}.'),
    (r'\.se\.se_layer\.fc1\.block\.conv\.', '.se.reduce.'),
    (r'\.se\.se_layer\.fc2\.block\.conv\.', '.se.expand.'),
    (r'\.block\.conv\.', '.conv.'),
    (r'\.block\.norm\.', '.bn.'),
    # mmpretrain
    (r'\.branch_conv_list\.', '.rbr_conv.'),
    (r'\.branch_scale\.', '.rbr_scale.'),
    (r'\.branch_norm\.', '.rbr_skip.'),
    (r'\.branch_reparam\.', '.reparam_conv.'),
    (r'(\.rbr_conv\.\d+|\.rbr_scale)\.norm\.', r'\1.bn.'),
    (r'\.se\.conv1\.conv\.', '.se.reduce.'),
    (r'\.se\.conv2\.conv\.', '.se.expand.'),
)
CLASSIFIER = re.compile(r'^(linear|head|fc|classifier)\.')


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or is not of the model that it is loaded into."""


def read_checkpoint(checkpoint: Union[str, PathLike], weights_only: bool = True) -> Any:
    """Read a checkpoint file without executing anything that is pickled in it.

    Args:
        checkpoint: A path, or a URL (downloaded once to torch's hub cache).
        weights_only: ``False`` also unpickles arbitrary objects: only for files that you trust.

    Returns:
        What the file holds, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is truncated or no checkpoint, the download failed, or it holds
            objects that ``weights_only`` refuses.
    """
    name = str(checkpoint)
    try:
        if name.startswith(('http://', 'https://')):
            return torch.hub.load_state_dict_from_url(
                name, map_location='cpu', weights_only=weights_only)
        if name.endswith('.safetensors'):
            return _read_safetensors(name)
        options = safe_load_options() if weights_only else dict(weights_only=False)
        return torch.load(name, map_location='cpu', **options)
    except FileNotFoundError:
        raise FileNotFoundError(f'there is no checkpoint file {name!r}') from None
    except pickle.UnpicklingError as error:
        if re.search('Unsupported (global|class)', str(error)):
            raise CheckpointError(
                f'{name} holds pickled objects besides weights, which could run code; if you trust '
                'where it comes from, add weights_only=False to init_cfg') from error
        raise CheckpointError(_UNREADABLE.format(name)) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch seeks to before the start of a short file
            raise CheckpointError(_UNREADABLE.format(name)) from error
        raise CheckpointError(
            f'could not read or download {name}: {error}. Download it by other means and give its '
            'path, or train from scratch with init_cfg=None') from error
    except Exception as error:  # the damage decides what torch and pickle stumble over
        raise CheckpointError(_UNREADABLE.format(name)) from error


_UNREADABLE = ('{} is truncated or not a checkpoint: delete it (for a URL, its copy in the torch '
               'hub cache) and download it again')


def _read_safetensors(name: str) -> StateDict:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{name} needs the package safetensors: pip install safetensors') \
            from None
    try:
        return load_file(name)
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises a class of its own, not exported everywhere
        raise CheckpointError(_UNREADABLE.format(name)) from error


def unwrap(checkpoint: Any, name: str = 'the checkpoint') -> StateDict:
    """Find the state dict in a checkpoint: bare, or under one of ``WRAPPERS``.

    Raises:
        CheckpointError: There is none.
    """
    if isinstance(checkpoint, Mapping):
        for key in WRAPPERS:
            if isinstance(checkpoint.get(key), Mapping):
                return unwrap(checkpoint[key], name)
        tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise CheckpointError(f'{name} holds no state dict: expected one bare, or under one of '
                          f'the keys {list(WRAPPERS)}')


def to_apple_names(state_dict: StateDict, prefix: Optional[str] = None) -> StateDict:
    """Rename the keys of Apple's, mmpretrain's, timm's or cvnets' state dict to Apple's names.

    Args:
        state_dict: Of a classifier, a backbone, or a whole detector or segmentor.
        prefix: Take only the keys that start with this. By default ``module.`` is stripped, and
            ``backbone.`` where any key has it.

    Returns:
        The backbone's entries only; the classifier is left out.
    """
    state_dict = {re.sub(r'^module\.', '', key): value for key, value in state_dict.items()}
    if prefix is None and any(key.startswith('backbone.') for key in state_dict):
        prefix = 'backbone.'
    if prefix:
        state_dict = {k[len(prefix):]: v for k, v in state_dict.items() if k.startswith(prefix)}
    return {_rename(k): v for k, v in state_dict.items() if not CLASSIFIER.match(k)}


def _rename(key: str) -> str:
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def is_folded(state_dict: StateDict, prefix: str = '') -> bool:
    """Whether a state dict (Apple's names) is of a folded net."""
    return any(k.startswith(prefix) and k.endswith('.reparam_conv.weight') for k in state_dict)


def check_form(state_dict: StateDict, prefix: str, deploy: bool,
               name: str = 'the checkpoint') -> None:
    """Refuse folded weights for an unfolded backbone and the reverse.

    Raises:
        CheckpointError: The forms differ; the message names the ways out.
    """
    if is_folded(state_dict, prefix) and not deploy:
        raise CheckpointError(
            f'{name} is folded but the backbone is not: set deploy=True in the backbone to use it '
            'as it is. To fine-tune from a folded file, give it as init_cfg=dict('
            "type='Pretrained', checkpoint=..., unfold=True)")
    if deploy and f'{prefix}stage0.rbr_conv.0.conv.weight' in state_dict:
        raise CheckpointError(
            f'the backbone has deploy=True but {name} is not folded: fold it with '
            'tools/reparameterize.py, or set deploy=False')


def load_pretrained(backbone: 'MobileOne',
                    checkpoint: Union[str, PathLike],
                    prefix: Optional[str] = None,
                    unfold: bool = False,
                    weights_only: bool = True,
                    map_location: str = 'cpu') -> None:
    """Initialise a backbone from a checkpoint of Apple, mmpretrain, timm, cvnets or this package.

    Everything is checked before a weight is written. The options are those of
    ``init_cfg=dict(type='Pretrained', ...)``.

    Args:
        backbone: Its arch must be the checkpoint's.
        checkpoint: Path or URL.
        prefix: Take only the keys that start with this; by default ``backbone.`` if there are any.
        unfold: Start an unfolded backbone from a folded file; its eval() outputs are then the
            file's. See :func:`mobileone_mm.backbones.unfold.unfold`.
        weights_only: ``False`` also unpickles arbitrary objects: only for files that you trust.
        map_location: Accepted for mmengine's sake; weights go where the backbone is.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is unreadable, of another architecture or of the other form.
    """
    name = str(checkpoint)
    print_log(f'load MobileOne backbone from: {name}', logger='current')
    state_dict = to_apple_names(unwrap(read_checkpoint(checkpoint, weights_only), name), prefix)
    _check_arch(state_dict, backbone.arch, name)
    if not backbone.arch.num_se_blocks[-1]:
        state_dict = _drop_squeeze_excite(state_dict, name)
    if unfold and is_folded(state_dict) and not backbone.deploy:
        from .backbones.unfold import unfold as start_from_folded
        start_from_folded(backbone, state_dict)
        return
    check_form(state_dict, '', backbone.deploy, name)
    _check_keys(state_dict, backbone.state_dict(), name)
    backbone.load_state_dict(state_dict, strict=False)


def _stage_channels(state_dict: StateDict) -> Tuple[int, ...]:
    """Output channels of the stem and the stages that a state dict holds, in order."""
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
    return f'a net of stem and stage widths {channels}'


def _check_arch(state_dict: StateDict, arch: MobileOneArch, name: str) -> None:
    found = _stage_channels(state_dict)
    if not found:
        raise CheckpointError(f'{name} holds no MobileOne backbone; some of its keys: '
                              f'{list(state_dict)[:3]}')
    expected = (arch.stem_channels, *arch.stage_channels)
    if found != expected:
        raise CheckpointError(f'{name} holds {_describe(found)}, but the backbone is '
                              f'{_describe(expected)}: change arch, or take another file')


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
