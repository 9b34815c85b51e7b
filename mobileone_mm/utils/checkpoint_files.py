"""Read checkpoint files without running their content."""

import errno
import re
import tarfile
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

import torch
from torch import Tensor

from . import safe_pickle
from .downloads import check_sha256, download
from .errors import CheckpointError, NonFiniteWeightsError
from .messages import shorten

__all__ = ['CheckpointError', 'NonFiniteWeightsError', 'check_finite', 'is_folded',
           'read_checkpoint', 'unwrap']

StateDict = Dict[str, Tensor]

FOLDER = 0x10  # MS-DOS attribute of a zip's record; torch would take what it finds in memory

# Keys of the weights in a training checkpoint, averaged ones first (timm, mmengine, cvnets). In
# mmengine's files ema_state_dict holds the weights before averaging; in cvnets', which have a
# model_state_dict, the averaged ones.
WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'model_state_dict')


def read_checkpoint(checkpoint: Union[str, PathLike], weights_only: bool = True,
                    sha256: Optional[str] = None) -> Any:
    """Read a checkpoint file without executing anything pickled in it.

    Args:
        checkpoint: A path, or a URL (downloaded once to torch's hub cache). The content, not the
            name, decides on the kind of file: torch with any pickle protocol, safetensors or
            TorchScript.
        weights_only: ``False`` also unpickles arbitrary objects; use it only for files you trust.
        sha256: The file's SHA-256 sum, or at least its first 8 digits; by default the hash in the
            file's name, if OpenMMLab's style of name has one.

    Returns:
        The content of the file, on the CPU; for TorchScript, its state dict.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is truncated or damaged, is not a checkpoint or does not match its
            hash, the download failed, or it holds objects that ``weights_only`` refuses.
    """
    name = str(checkpoint)
    try:
        if name.startswith(('http://', 'https://')):
            path = download(name, sha256)
        else:
            path = Path(name).expanduser()
            check_sha256(path, name, sha256)
        return _read(path, weights_only)
    except FileNotFoundError:
        raise FileNotFoundError(f'there is no checkpoint file {name!r}') from None
    except safe_pickle.RefusedObjectError as error:
        raise CheckpointError(
            f'{name} holds pickled objects besides weights ({error}), which could run code: it was '
            'not loaded. If you trust its source, add weights_only=False to init_cfg, or '
            'save only its weights') from error
    except CheckpointError:
        raise
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch seeks to before the start of a short file
            raise CheckpointError(_UNREADABLE.format(name)) from error
        raise CheckpointError(
            f'could not read or download {name}: {error}. Download it by other means and give its '
            'path, or train from scratch with init_cfg=None') from error
    except ValueError as error:
        if 'sha256=' in str(error):
            raise
        raise CheckpointError(_UNREADABLE.format(name)) from error
    except Exception as error:  # which error comes depends on the damage
        raise CheckpointError(_UNREADABLE.format(name)) from error


_UNREADABLE = ('{} is truncated or not a checkpoint: delete it (for a URL, its copy in the torch '
               'hub cache) and download it again')


def _read(path: Path, weights_only: bool) -> Any:
    with open(path, 'rb') as file:
        start = file.read(9)
    if start[8:] == b'{' and int.from_bytes(start[:8], 'little') <= path.stat().st_size:
        return _read_safetensors(path)
    _check_records(path)
    if safe_pickle.is_torchscript(path):
        return safe_pickle.load_torchscript(path)
    if tarfile.is_tarfile(path):  # torch's format of 2016, which it unpacks to disk
        raise CheckpointError(f'{path} is a tar archive: expected a file of torch.save')
    return safe_pickle.load(path, weights_only)


def _check_records(path: Path) -> None:
    """Compare a zip's records with their checksums, which torch writes but does not read.

    If none is right, they were left out (``torch.serialization.set_crc32_options``).
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if record.file_size]
        wrong = [record.filename for record in records if not _is_right(archive, record)]
    if wrong and len(wrong) < len(records):
        raise CheckpointError(f'{path} is damaged: the checksum of {wrong[0]} is wrong. Copy or '
                              'download it again')


def _is_right(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    if record.external_attr & FOLDER:
        return False
    try:
        with archive.open(record) as file:
            while file.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _read_safetensors(path: Path) -> StateDict:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{path} needs the package safetensors: pip install safetensors') \
            from None
    return load_file(str(path))


def unwrap(checkpoint: Any, name: str = 'the checkpoint') -> StateDict:
    """Find the state dict in a checkpoint, bare or under one of ``WRAPPERS``.

    Removes what DistributedDataParallel, ``torch.compile`` and ``AveragedModel`` add to the names
    (``module.``, ``_orig_mod.``, ``n_averaged``).

    Raises:
        CheckpointError: There is none, or two of its weights then have the same name.
    """
    if isinstance(checkpoint, Mapping):
        first = ['ema_state_dict'] if 'model_state_dict' in checkpoint else []
        for key in [*first, *WRAPPERS]:
            if isinstance(checkpoint.get(key), Mapping):
                return unwrap(checkpoint[key], name)
        tensors = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
        if tensors:
            return _plain_names(tensors, name)
        raise CheckpointError(f'{name} holds no state dict: expected one bare, or under one of '
                              f'the keys {list(WRAPPERS)}; its keys: {shorten(checkpoint, 3)}')
    raise CheckpointError(f'{name} holds no state dict but a {type(checkpoint).__name__}')


def _plain_names(state_dict: StateDict, name: str) -> StateDict:
    plain: StateDict = {}
    for key, value in state_dict.items():
        short = re.sub(r'^(module\.)+', '', key.replace('_orig_mod.', ''))
        if short in plain:
            raise CheckpointError(f'{name} holds {short} twice, once as {key}')
        plain[short] = value
    plain.pop('n_averaged', None)
    return plain


def check_finite(weights: Mapping[str, Tensor], name: str = 'the checkpoint') -> None:
    """Refuse the weights of a diverged training.

    Args:
        weights: A state dict.
        name: Where they are from, for the message.

    Raises:
        NonFiniteWeightsError: A weight is NaN or infinite; the message names the first.
    """
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    if not floats:
        return
    # Ask the device once, not for each tensor.
    finite = torch.stack([value.isfinite().all() for value in floats.values()]).tolist()
    wrong = [key for key, good in zip(floats, finite) if not good]
    if wrong:
        kind = 'NaN' if floats[wrong[0]].isnan().any() else 'infinite'
        raise NonFiniteWeightsError(
            f'{name}: the weights are {kind}, {wrong[0]} first ({len(wrong)} of {len(floats)} '
            'tensors): the training diverged. Go back to an earlier checkpoint, and train with a '
            'lower learning rate or with clip_grad')


def is_folded(state_dict: StateDict, prefix: str = '') -> bool:
    """Whether a state dict with Apple's names belongs to a folded network."""
    return any(k.startswith(prefix) and k.endswith('.reparam_conv.weight') for k in state_dict)
