"""Run a training so that it can be resumed at any iteration, whatever stopped it."""

from .cpu import CPUAmpOptimWrapper, CPULogProcessor, join_cpu_processes
from .resuming.finding import find_checkpoint, is_whole, read_whole, run_directories
from .resuming.lock import lock_directories
from .resuming.resumable_loop import ResumableEpochLoop
from .resuming.resume import make_resumable
from .resuming.runner import ResumableRunner
from .resuming.seeded_dataset import DatasetError, SeededDataset

__all__ = ['CPUAmpOptimWrapper', 'CPULogProcessor', 'DatasetError', 'ResumableEpochLoop',
           'ResumableRunner', 'SeededDataset', 'find_checkpoint', 'is_whole', 'join_cpu_processes',
           'lock_directories', 'make_resumable', 'read_whole', 'run_directories']
