"""Turn a config into one whose training can be resumed exactly."""

from mmengine.config import Config, ConfigDict

__all__ = ['make_resumable']


def make_resumable(cfg: Config) -> None:
    """Make an epoch-based training stoppable at any moment and resumable at the next iteration.

    Replaces mmengine's Runner, loop, CheckpointHook and training data set with those of
    :mod:`mobileone_mm`, which otherwise behave the same, and adds hooks. An iteration-based run
    only gets the Runner and the checkpoint hook. A second call changes nothing.

    Args:
        cfg: The config of the run, changed in place. Build it with ``RUNNERS.build(cfg)``, since
            ``Runner.from_cfg`` ignores ``runner_type``.
    """
    cfg.setdefault('runner_type', 'ResumableRunner')
    cfg.setdefault('default_hooks', ConfigDict())
    checkpoint = cfg.default_hooks.setdefault(  # mmengine's default
        'checkpoint', ConfigDict(type='CheckpointHook', interval=1))
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
        # Without it, processes have different running statistics, and only one of them is saved.
        needed.append('SyncStatisticsHook')
    cfg.custom_hooks = list(hooks) + [dict(type=name) for name in needed if name not in present]
