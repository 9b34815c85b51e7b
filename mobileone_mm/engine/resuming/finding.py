"""Find the checkpoint to resume: the newest complete one."""

import logging
import os
import re
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.logging import print_log

from ...utils.checkpoint_files import CheckpointError, read_checkpoint

__all__ = ['find_checkpoint', 'is_whole', 'read_whole', 'run_directories']

_KINDS = [re.compile(pattern) for pattern in (
    r'epoch_(\d+)\.pth', r'iter_(\d+)\.pth', r'interrupted()\.pth')]
_PARTS = dict(meta=dict, message_hub=dict, state_dict=dict, optimizer=dict)


def read_whole(path: Union[str, Path]) -> Any:
    """Read a checkpoint of mmengine that holds everything a resumed run needs.

    Every record's checksum is verified, and nothing in the file is executed.

    Raises:
        CheckpointError: The file is damaged, not a checkpoint, or incomplete.
        FileNotFoundError: The file does not exist.
    """
    content = read_checkpoint(path)
    content = content if isinstance(content, dict) else {}
    lacking = [key for key, kind in _PARTS.items() if not isinstance(content.get(key), kind)]
    if lacking:
        raise CheckpointError(f'{path} holds no {" and no ".join(lacking)}, which resuming '
                              'needs (best_*.pth and *_deploy.pth never have it)')
    if any(type(content['meta'].get(key)) is not int or content['meta'][key] < 0
           for key in ('epoch', 'iter')):
        raise CheckpointError(f'{path} does not say at which epoch and iteration it was saved')
    return content


def is_whole(path: Union[str, Path]) -> bool:
    """Whether a file is a complete and undamaged checkpoint that a training can resume from."""
    try:
        read_whole(path)
    except (CheckpointError, FileNotFoundError):
        return False
    return True


def find_checkpoint(*directories: Union[str, Path]) -> Optional[Path]:
    """The newest complete checkpoint of a run, by epoch and iteration; damaged ones are skipped.

    Unlike mmengine's ``last_checkpoint`` file, this never names a file that is absent or damaged.

    Args:
        directories: Where the run saves checkpoints.

    Returns:
        Its path; None if there are no checkpoints.

    Raises:
        CheckpointError: There are checkpoints, but all are damaged.
    """
    files = [path for directory in directories for path in Path(directory).glob('*.pth')]
    newest: List[Tuple[int, int, Path]] = []
    damaged: List[Path] = []
    for kind in _KINDS:
        for path in _latest_first(files, kind):
            try:
                meta = read_whole(path)['meta']
            except CheckpointError as error:
                print_log(f'{error}: trying the checkpoint before it',
                          logger='current', level=logging.WARNING)
                damaged.append(path)
            else:
                newest.append((meta['epoch'], meta['iter'], path))
                break
    if damaged and not newest:
        raise CheckpointError(
            f'no checkpoint in {", ".join(map(str, directories))} is complete: '
            f'{", ".join(path.name for path in damaged)}. Move them away to start from scratch')
    return max(newest)[-1] if newest else None


def run_directories(work_dir: str, cfg: Config) -> List[Path]:
    """The local directories of a run's checkpoints; CheckpointHook's own comes last."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    if out_dir is None or '://' in str(out_dir) or str(out_dir) == work_dir:
        return [Path(work_dir)]
    return [Path(work_dir), Path(out_dir, os.path.basename(work_dir.rstrip(os.sep)))]


def _latest_first(files: List[Path], kind: 're.Pattern') -> Iterator[Path]:
    numbered = [(int(match[1] or 0), path) for path in files
                for match in [kind.fullmatch(path.name)] if match]
    for _, path in sorted(numbered, reverse=True):
        yield path
