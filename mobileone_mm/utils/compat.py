"""What mmengine 0.10 needs help with: its own checkpoints, and mmseg under another name."""

import codecs
import pickle
import types
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.utils import digit_version
from mmengine.utils.dl_utils import TORCH_VERSION

__all__ = ['allow_mmengine_checkpoints', 'find_forks', 'safe_load_options']

# From here on torch's own weights_only takes exceptions, under names of their own.
KNOWS_EXCEPTIONS = digit_version(TORCH_VERSION) >= digit_version('2.6.0')


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training checkpoints.

    torch 2.6 made ``weights_only=True`` the default, and mmengine 0.10 does not override it, while
    its checkpoints hold the logged scalars as HistoryBuffer objects over numpy arrays: resuming
    fails. Naming these few harmless classes as safe keeps the protection for everything else.
    """
    if KNOWS_EXCEPTIONS:
        torch.serialization.add_safe_globals([(value, name) for name, value in _exceptions()])


def find_forks() -> None:
    """Let ``mmseg::...`` in a config find a fork, such as onedl-mmsegmentation.

    mmengine looks for a distribution named mmsegmentation, or else for a module of that name. Where
    mmseg is there without such a distribution, it shall look for the module ``mmseg``.
    """
    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'


def safe_load_options() -> Dict[str, Any]:
    """Arguments of ``torch.load`` that refuse all but weights and mmengine's logged scalars."""
    if KNOWS_EXCEPTIONS:
        return dict(weights_only=True)
    return dict(weights_only=False, pickle_module=types.SimpleNamespace(
        __name__='restricted', Unpickler=_RestrictedUnpickler,
        load=lambda file, **kwargs: _RestrictedUnpickler(file, **kwargs).load()))


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds what torch's weights_only finds, and the exceptions."""

    def find_class(self, module: str, name: str) -> Any:
        from torch._weights_only_unpickler import _get_allowed_globals
        allowed = {**_get_allowed_globals(), **dict(_exceptions())}
        module = 'builtins' if module == '__builtin__' else module  # as pickle 2 has it
        try:
            return allowed[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'Unsupported global: {module}.{name}') from None


def _exceptions() -> Iterator[Tuple[str, Any]]:
    """Pairs of a name in a pickle and what it may stand for."""
    array: Any
    scalar: Any
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    yield 'mmengine.logging.history_buffer.HistoryBuffer', HistoryBuffer
    yield 'numpy.ndarray', np.ndarray
    yield 'numpy.dtype', np.dtype
    yield '_codecs.encode', codecs.encode
    for kind in '?bBhHiIlLqQefd':
        dtype = type(np.dtype(kind))
        yield f'{dtype.__module__}.{dtype.__qualname__}', dtype
    # numpy 1 and 2 name the same functions differently; files of either are read.
    for function in (array, scalar):
        for core in ('core', '_core'):
            yield f'numpy.{core}.multiarray.{function.__name__}', function
    yield 'builtins.getattr', _history_buffer_method


def _history_buffer_method(owner: Any, name: str) -> Any:
    """All of ``getattr`` that a HistoryBuffer's pickle needs: its own statistics methods."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise ValueError(f'refusing to look up {name!r} while loading a checkpoint')
    return getattr(owner, name)
