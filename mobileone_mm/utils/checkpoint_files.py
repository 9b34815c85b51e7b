"""Read a checkpoint file without running what is in it."""

import errno
import pickle
import re
from os import PathLike
from typing import TYPE_CHECKING, Any, Dict, Mapping, Union

import torch
from torch import Tensor

from .compat import safe_load_options

if TYPE_CHECKING:
    pass

__all__ = ['CheckpointError', 'is_folded', 'read_checkpoint', 'unwrap']

StateDict = Dict[str, Tensor]

# Where a training checkpoint keeps the weights, the averaged ones first (timm, mmengine, cvnets).
WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')


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


def is_folded(state_dict: StateDict, prefix: str = '') -> bool:
    """Whether a state dict (Apple's names) is of a folded net."""
    return any(k.startswith(prefix) and k.endswith('.reparam_conv.weight') for k in state_dict)
