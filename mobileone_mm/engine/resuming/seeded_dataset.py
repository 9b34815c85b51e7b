"""Make random augmentation depend only on (seed, epoch, index)."""

import random
from contextlib import contextmanager
from typing import Any, Iterator, Union

import numpy as np
import torch
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.registry import DATASETS

from ...utils.wrapped import inner_datasets

__all__ = ['DatasetError', 'SeededDataset', 'seed_everything', 'seeded_datasets']


class DatasetError(RuntimeError):
    """A sample could not be made; the message names its file in one line."""

    START = 'cannot load sample'

    def __init__(self, message: str) -> None:
        # DataLoader wraps a worker's error in its traceback; the message is at the end.
        super().__init__(message[max(message.rfind(self.START), 0):].rstrip())


@DATASETS.register_module()
class SeededDataset(RepeatDataset):
    """A data set in which each sample draws its random numbers from (seed, epoch, index).

    Samples then do not depend on the number of workers or on earlier samples, so a run that stops
    in the middle of an epoch resumes with the same samples. An error in loading or augmenting a
    sample names its file.

    Args:
        dataset: The data set to wrap.
        times: As in RepeatDataset. Defaults to 1.
        lazy_init: As in RepeatDataset. Defaults to False.
    """

    def __init__(self,
                 dataset: Union[BaseDataset, dict],
                 times: int = 1,
                 lazy_init: bool = False) -> None:
        super().__init__(dataset, times, lazy_init)
        # Seed and epoch, in shared memory so that persistent workers see them change.
        self._state = torch.zeros(2, dtype=torch.int64).share_memory_()

    def set_state(self, seed: int, epoch: int) -> None:
        """Set the seed and the epoch, also for running workers."""
        self._state[0], self._state[1] = seed, epoch

    def __getitem__(self, idx: int) -> Any:
        """Make a sample, and restore the caller's random number generators.

        Raises:
            IndexError: ``idx`` is past the last sample, where RepeatDataset would start again.
            DatasetError: The sample cannot be loaded or augmented.
        """
        if idx >= len(self):
            raise IndexError(f'{idx}: expected less than {len(self)}')
        with _random_state_kept():
            seed = _seed_python(*self._state.tolist(), idx)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed() would also seed GPUs
            try:
                return super().__getitem__(idx)
            except Exception as error:
                reason = ' '.join(f'{type(error).__name__}: {error}'.split())
                raise DatasetError(f'{DatasetError.START} {idx} ({self._describe(idx)}): '
                                   f'{reason}') from error

    def _describe(self, idx: int) -> str:
        info = self.get_data_info(idx)
        return ', '.join(str(info[key]) for key in ('img_path', 'seg_map_path') if info.get(key))


def seeded_datasets(dataset: Any) -> Iterator[SeededDataset]:
    """Every SeededDataset in a data set, however wrapped."""
    if isinstance(dataset, SeededDataset):
        yield dataset
    for part in inner_datasets(dataset):
        yield from seeded_datasets(part)


def seed_everything(*entropy: int) -> None:
    """Seed the generators of Python, NumPy and torch, including GPUs, from several numbers."""
    torch.manual_seed(_seed_python(*entropy))


def _seed_python(*entropy: int) -> int:
    """Seed the generators of Python and NumPy; returns the seed for torch."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    return seed


@contextmanager
def _random_state_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
