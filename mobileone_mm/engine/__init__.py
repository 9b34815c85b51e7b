"""How training runs: resumable to the iteration, by whatever it was stopped."""

from .cpu import CPUAmpOptimWrapper, CPULogProcessor, join_cpu_processes
from .resuming.resumable_loop import ResumableEpochLoop
from .resuming.resume import find_checkpoint, is_whole, make_resumable
from .resuming.seeded_dataset import DatasetError, SeededDataset

__all__ = ['CPUAmpOptimWrapper', 'CPULogProcessor', 'DatasetError', 'ResumableEpochLoop',
           'SeededDataset', 'find_checkpoint', 'is_whole', 'join_cpu_processes', 'make_resumable']
