"""Find the checkpoint to resume, and turn a config into one that can be resumed exactly."""

import logging
import re
import zipfile
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

__all__ = ['find_checkpoint', 'is_whole', 'make_resumable']

_RESUMABLE = re.compile(r'(epoch_\d+|iter_\d+|interrupted)\.pth')


def is_whole(path: Union[str, Path]) -> bool:
    """Whether a checkpoint file is complete: every record's checksum is verified."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged directory makes zipfile raise nearly anything
        return False


def find_checkpoint(work_dir: Union[str, Path]) -> Optional[Path]:
    """The newest whole checkpoint of a run, skipping broken ones with a warning.

    Unlike mmengine's ``last_checkpoint`` file, this never names a file that is absent or truncated.
    """
    paths = [p for p in Path(work_dir).glob('*.pth') if _RESUMABLE.fullmatch(p.name)]
    for path in sorted(paths, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True):
        if is_whole(path):
            return path
        print_log(f'{path} is truncated or damaged: trying the checkpoint before it',
                  logger='current', level=logging.WARNING)
    return None


def make_resumable(cfg: Config) -> None:
    """Let an epoch-based training run be stopped at any moment and resumed to the iteration.

    Replaces mmengine's loop, CheckpointHook and the training data set by those of
    :mod:`mobileone_mm`, which behave the same otherwise, and adds hooks. An iteration-based
    run gets the safe checkpoints only; mmengine resumes it by itself. Does nothing twice.

    Args:
        cfg: The config of the run, changed in place.
    """
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint')
    if checkpoint and checkpoint.get('type') == 'CheckpointHook':
        checkpoint.type = 'AtomicCheckpointHook'
    loop = cfg.get('train_cfg') or {}
    if loop.get('type', 'EpochBasedTrainLoop' if loop.get('by_epoch') else None) not in (
            'EpochBasedTrainLoop', 'ResumableEpochLoop'):
        return
    loop.pop('by_epoch', None)
    loop['type'] = 'ResumableEpochLoop'
    loader = cfg.train_dataloader
    if loader.dataset.get('type') != 'SeededDataset':
        loader.dataset = ConfigDict(type='SeededDataset', dataset=loader.dataset)
    hooks = cfg.get('custom_hooks') or []
    present = {hook['type'] for hook in hooks}
    needed = ['IterationSeedHook', 'StopSignalHook']
    if cfg.get('launcher', 'none') != 'none':
        # The processes' running statistics differ; without it the validated model is not the saved.
        needed.append('SyncBuffersHook')
    cfg.custom_hooks = list(hooks) + [dict(type=name) for name in needed if name not in present]
