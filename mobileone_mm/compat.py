"""What mmengine 0.10 needs to read its own checkpoints on torch >= 2.6."""

from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.utils import digit_version
from mmengine.utils.dl_utils import TORCH_VERSION


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's training checkpoints.

    torch 2.6 made ``weights_only=True`` the default, and mmengine 0.10 does not override it, while
    its checkpoints hold the logged scalars as HistoryBuffer objects over numpy arrays: resuming
    fails. Naming these few harmless classes as safe keeps the protection for everything else.
    """
    if digit_version(TORCH_VERSION) < digit_version('2.6.0'):
        return
    array: Any
    scalar: Any
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in '?bBhHiIlLqQefd'}
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, array, scalar, *dtypes,
        # numpy 1 and 2 name the same functions differently; files of either are read.
        *((function, f'numpy.{core}.multiarray.{function.__name__}')
          for function in (array, scalar) for core in ('core', '_core')),
        (_history_buffer_method, 'builtins.getattr')
    ])


def _history_buffer_method(owner: Any, name: str) -> Any:
    """All of ``getattr`` that a HistoryBuffer's pickle needs: its own statistics methods."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise ValueError(f'refusing to look up {name!r} while loading a checkpoint')
    return getattr(owner, name)
