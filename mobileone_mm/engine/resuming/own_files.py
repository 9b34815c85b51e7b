"""Check paths in a checkpoint's message hub against the run's own directory."""

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

from ...utils.checkpoint_files import CheckpointError

__all__ = ['own_files_only']

_NAMES = dict(best_ckpt=re.compile(r'best_.+\.pth'), last_ckpt=re.compile(r'.+\.pth'))


def own_files_only(hub: Dict[str, Any], source: Union[str, Path],
                   directories: Sequence[Path]) -> List[str]:
    """Make the paths in a message hub's state lead to the run's own checkpoints, or drop them.

    mmengine stores absolute paths, and uses them to remove the best checkpoint. In a copied
    directory, or in a fork of a run, they would lead to the other run's files.

    Args:
        hub: ``checkpoint['message_hub']``, changed in place.
        source: The checkpoint's file. If it is from elsewhere, it has no files in ``directories``.
        directories: The run's, from :func:`mobileone_mm.engine.run_directories`.

    Returns:
        The paths that were dropped.

    Raises:
        CheckpointError: ``hub`` is not the state of a message hub.
    """
    if not all(isinstance(hub.get(part), dict)
               for part in ('runtime_info', 'resumed_keys', 'log_scalars')):
        raise CheckpointError(f'{source} holds a damaged message hub')
    info, resumed = hub['runtime_info'], hub['resumed_keys']
    directory = directories[-1]
    same = os.path.realpath(Path(source).parent) in map(os.path.realpath, directories)
    dropped = []
    for key in [key for key in info if str(key).startswith(tuple(_NAMES))]:
        value = info.pop(key)
        name = Path(str(value)).name
        if same and _NAMES[key[:9]].fullmatch(name) and (directory / name).is_file():
            info[key] = str(directory / name)
        else:
            dropped.append(str(value))
            resumed.pop(key, None)
    if 'keep_ckpt_ids' in info:
        info['keep_ckpt_ids'] = [step for step in _as_list(info['keep_ckpt_ids'])
                                 if same and type(step) is int]
    return dropped


def _as_list(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
