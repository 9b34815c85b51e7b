"""Hooks, registered in mmengine's root registry."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .iteration_seed_hook import IterationSeedHook
from .reparameterize_hook import ReparameterizeHook
from .stop_signal_hook import StopSignalHook

__all__ = ['AtomicCheckpointHook', 'IterationSeedHook', 'ReparameterizeHook', 'StopSignalHook']
