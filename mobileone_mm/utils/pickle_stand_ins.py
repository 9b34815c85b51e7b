"""Safe stand-ins for the few classes that a checkpoint's pickle may name.

Allowing ``numpy.ndarray`` itself would be a mistake: with the type ``object`` over raw bytes it
makes wild pointers. The stand-ins check their arguments.
"""

import argparse
import codecs
import pickle
import re
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from mmengine.logging.history_buffer import HistoryBuffer

__all__ = ['Array', 'DType', 'History', 'RefusedObjectError', 'STATISTICS', 'ScriptModule',
           'script_list', 'stand_ins', 'without_stand_ins']

NUMERIC = re.compile(r'[<>=|]?(b1|[iuf][1248])')
STATISTICS = ('min', 'max', 'mean', 'current')


class RefusedObjectError(pickle.UnpicklingError):
    """A pickle names something other than weights and plain values."""


class DType:
    """Stands for ``numpy.dtype``: only the name of a numeric type."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(code, str) or not NUMERIC.fullmatch(code):
            raise RefusedObjectError(f'Unsupported class numpy.dtype({code!r})')
        self.code = code.lstrip('<>=|')
        self.order = '<'

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = {'>': '>'}.get(state[1], '<')

    def read(self, data: Any) -> np.ndarray:
        """Copy the numbers from bytes."""
        return np.frombuffer(data, self.order + self.code).astype(self.code)


class Array:
    """Stands for ``numpy.ndarray``."""

    value = np.zeros(0)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, DType) or not isinstance(data, (bytes, bytearray)):
            raise RefusedObjectError('Unsupported class numpy.ndarray')
        self.value = dtype.read(data).reshape(shape, order='F' if is_fortran else 'C')


def _new_array(kind: Any, shape: Any, code: Any) -> Array:
    return Array()


def _scalar(dtype: DType, data: bytes) -> Any:
    return dtype.read(data)[0]


class History(HistoryBuffer):
    """Stands for mmengine's HistoryBuffer, and is turned into one."""

    def __setstate__(self, state: Dict[str, Any]) -> None:
        logged, counts = (_value(state[name]) for name in ('_log_history', '_count_history'))
        HistoryBuffer.__init__(self, logged, counts, int(state['max_length']))
        self.__class__ = HistoryBuffer


def _history_method(owner: Any, name: str) -> str:
    """The only use of ``getattr`` in a HistoryBuffer's pickle; its statistics are set again."""
    if owner is not History or name not in STATISTICS:
        raise RefusedObjectError('Unsupported global builtins.getattr')
    return name


class ScriptModule:
    """Stands for a module of a TorchScript archive."""

    attributes: Dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def script_list(*args: Any) -> None:
    """Stands for TorchScript's typed lists, which hold no weights."""


def stand_ins() -> Dict[str, Any]:
    """Name in a pickle -> stand-in."""
    names = {
        'mmengine.logging.history_buffer.HistoryBuffer': History,
        'builtins.getattr': _history_method,
        'argparse.Namespace': argparse.Namespace,
        '_codecs.encode': codecs.encode,
        'numpy.ndarray': Array,
        'numpy.dtype': DType,
    }
    for core in ('core', '_core'):  # of NumPy 1 and 2
        names[f'numpy.{core}.multiarray._reconstruct'] = _new_array
        names[f'numpy.{core}.multiarray.scalar'] = _scalar
    return names


def _value(item: Any) -> Any:
    return item.value if isinstance(item, Array) else item


def without_stand_ins(content: Any) -> Any:
    """Replace stand-ins by arrays, in nested plain containers."""
    done: set = set()
    pending: List[Any] = [content]
    while pending:
        node = pending.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, argparse.Namespace):
            node = vars(node)
        if isinstance(node, dict):
            for key, value in node.items():
                node[key] = _value(value)
            pending += node.values()
        elif isinstance(node, list):
            node[:] = map(_value, node)
            pending += node
        elif isinstance(node, tuple):
            pending += node
    return _value(content)
