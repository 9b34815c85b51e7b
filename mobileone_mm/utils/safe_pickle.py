"""Unpickle without running anything: weights, plain values, and stand-ins for a few classes.

torch's own ``weights_only`` refuses what training checkpoints hold besides weights: mmengine's
logged scalars, which are NumPy arrays, and the ``argparse.Namespace`` of timm and cvnets. While
:func:`load` runs, their names are bound to the classes of
:mod:`mobileone_mm.utils.pickle_stand_ins`.
"""

import argparse
import pickle
import re
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from mmengine.utils import digit_version
from mmengine.utils.dl_utils import TORCH_VERSION

from .pickle_stand_ins import (
    STATISTICS,
    Array,
    DType,
    History,
    RefusedObjectError,
    ScriptModule,
    script_list,
    stand_ins,
    without_stand_ins,
)

__all__ = ['RefusedObjectError', 'is_torchscript', 'load', 'load_torchscript']

# From this release on, torch's weights_only accepts other classes under given names.
KNOWS_EXCEPTIONS = digit_version(TORCH_VERSION) >= digit_version('2.6.0')


def load(path: Path, weights_only: bool) -> Any:
    """What ``torch.load`` returns on the CPU, without running pickled code.

    Args:
        path: A file written by ``torch.save``.
        weights_only: ``False`` runs whatever the file contains.

    Raises:
        RefusedObjectError: The file holds other objects; the message names the first.
    """
    if not weights_only:
        return torch.load(path, map_location='cpu', weights_only=False)
    try:
        if KNOWS_EXCEPTIONS and _protocol(path) <= 2:
            with torch.serialization.safe_globals([(v, k) for k, v in stand_ins().items()]):
                content = torch.load(path, map_location='cpu', weights_only=True)
        else:  # torch's only reads protocol 2
            content = torch.load(path, map_location='cpu', weights_only=False,
                                 pickle_module=_MODULE)
    except pickle.UnpicklingError as error:
        refused = _refused_name(str(error))
        if refused is None:
            raise
        raise RefusedObjectError(refused) from error
    return without_stand_ins(content)


def load_torchscript(path: Path) -> Dict[str, torch.Tensor]:
    """The state dict of a TorchScript archive; its code is neither compiled nor run."""
    # torch.load would hand the archive to torch.jit.load.
    module = torch.serialization._load(_archive(path), 'cpu', _MODULE)
    tensors: Dict[str, torch.Tensor] = {}
    _collect(module, '', tensors)
    return tensors


def _collect(module: Any, prefix: str, tensors: Dict[str, torch.Tensor]) -> None:
    for name, value in getattr(module, 'attributes', {}).items():
        if isinstance(value, torch.Tensor):
            tensors[f'{prefix}{name}'] = value.detach()
        elif isinstance(value, ScriptModule):
            _collect(value, f'{prefix}{name}.', tensors)


def _refused_name(message: str) -> Optional[str]:
    """What an unpickler (ours, or torch's of any release) refused; None for other errors."""
    found = re.search(r'(?i)unsupported (?:global|class):?(?: global)? ([\w.]+)', message)
    if found:
        return found[1]
    for start in ('Can only build', 'Can only create', 'Trying to call reduce'):
        if start in message:
            return 'an object'
    return None


def is_torchscript(path: Path) -> bool:
    """Whether ``torch.load`` would take a file for a TorchScript archive."""
    archive = _archive(path)
    return archive is not None and 'constants.pkl' in archive.get_all_records()


def _archive(path: Path) -> Any:
    """The zip archive as torch reads it, which may differ from zipfile; None for other files."""
    with open(path, 'rb') as file:
        is_zip = file.read(4) == b'PK\3\4'
    return torch._C.PyTorchFileReader(str(path)) if is_zip else None


def _protocol(path: Path) -> int:
    """The pickle protocol of a file written by ``torch.save``; 0 if it does not say."""
    archive = _archive(path)
    if archive is not None:
        start = archive.get_record('data.pkl')[:2]
    else:
        with open(path, 'rb') as file:
            start = file.read(2)
    return start[1] if len(start) == 2 and start[:1] == pickle.PROTO else 0


_PythonUnpickler: Any = pickle._Unpickler  # the one in C cannot be changed


class _Unpickler(_PythonUnpickler):
    """Finds what torch's weights_only finds, and the stand-ins, in any protocol.

    Pickles can call anything they find and set its attributes. Here they can only call what is
    allowed and fill objects made for it, as with torch's own.
    """

    dispatch = dict(_PythonUnpickler.dispatch)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from torch._weights_only_unpickler import _get_allowed_globals
        super().__init__(*args, **kwargs)
        self._allowed: Dict[str, Any] = {**_get_allowed_globals(), **stand_ins()}

    def find_class(self, module: str, name: str) -> Any:
        """Find what a name stands for."""
        if module.startswith('__torch__'):
            return ScriptModule
        if module == 'torch.jit._pickle':  # TorchScript's typed lists
            return script_list
        module = 'builtins' if module == '__builtin__' else module  # the name in protocol 2
        found = self._allowed.get(f'{module}.{name}')
        if found is None:
            # Protocol 4 names methods by path.
            owner, _, method = name.rpartition('.')
            if self._allowed.get(f'{module}.{owner}') is History and method in STATISTICS:
                return method
            raise RefusedObjectError(f'Unsupported global {module}.{name}')
        return found

    def load_build(self) -> None:
        """Fill an object."""
        target = self.stack[-2]
        kinds = (OrderedDict, torch.Tensor, argparse.Namespace, History, Array, DType,
                 ScriptModule)
        if not isinstance(target, kinds):
            raise RefusedObjectError(f'Unsupported class {type(target).__name__}')
        super().load_build()

    def load_reduce(self) -> None:
        """Call a function if it is allowed."""
        function = self.stack[-2]
        if function is not script_list and not any(
                function is known for known in self._allowed.values()):
            raise RefusedObjectError(f'Unsupported class {type(function).__name__}')
        super().load_reduce()

    def load_instance(self) -> None:
        """Python 2's ways to call, which nothing writes today."""
        raise RefusedObjectError('Unsupported class instance')

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.INST[0]] = dispatch[pickle.OBJ[0]] = load_instance


def _load(file: Any, *args: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, *args, **kwargs).load()


_MODULE: Any = types.SimpleNamespace(__name__='restricted', Unpickler=_Unpickler, load=_load)
