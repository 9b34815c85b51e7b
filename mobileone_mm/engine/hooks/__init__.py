"""Hooks, registered in mmengine's root registry."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .freeze_norm_hook import FreezeNormHook
from .iteration_seed_hook import IterationSeedHook
from .progressive_learning_hook import ProgressiveLearningHook
from .reparameterize_hook import ReparameterizeHook
from .run_pictures_hook import RunPicturesHook
from .stop_signal_hook import StopSignalHook
from .sync_statistics_hook import SyncStatisticsHook
from .weight_decay_annealing_hook import WeightDecayAnnealingHook

__all__ = ['AtomicCheckpointHook', 'FreezeNormHook', 'IterationSeedHook',
           'ProgressiveLearningHook', 'ReparameterizeHook', 'RunPicturesHook', 'StopSignalHook',
           'SyncStatisticsHook', 'WeightDecayAnnealingHook']
