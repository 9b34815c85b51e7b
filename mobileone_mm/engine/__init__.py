"""How training runs: resumable to the iteration, by whatever it was stopped."""

from .cpu import CPUAmpOptimWrapper, CPULogProcessor, join_cpu_processes
from .resumable_loop import ResumableEpochLoop
from .resume import find_checkpoint, is_whole, make_resumable
from .seeded_dataset import DatasetError, SeededDataset

__all__ = ['CPUAmpOptimWrapper', 'CPULogProcessor', 'DatasetError', 'ResumableEpochLoop',
           'SeededDataset', 'find_checkpoint', 'is_whole', 'join_cpu_processes', 'make_resumable']
