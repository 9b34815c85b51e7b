"""Data sets that wrap others, as configs or built."""

from typing import Any, Callable, Dict, Iterator, List, Optional

from .configs import type_name

__all__ = ['count_samples', 'inner_datasets', 'unwrapped']

# Wrappers that hold all samples of what they wrap, ``times`` over if they have that option.
COUNTED = ('ConcatDataset', 'RepeatDataset', 'MultiImageMixDataset', 'SeededDataset')


def inner_datasets(dataset: Any) -> List[Any]:
    """The data sets that a wrapper holds, or none.

    Args:
        dataset: A config or a data set. Wrappers are mmengine's RepeatDataset and ConcatDataset,
            mmdet's MultiImageMixDataset, and mmengine's ``num_batch_per_epoch``.
    """
    parts = dataset if isinstance(dataset, dict) else getattr(dataset, '__dict__', {})
    several = parts.get('datasets') or ()
    found = [parts.get('dataset'), *several, parts.get('_dataset')]
    return [part for part in found if part is not None]


def unwrapped(dataset: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """The configs of the data sets that wrap no other, in order; none for an empty config."""
    inner = inner_datasets(dataset)
    if not inner and dataset:
        yield dataset
    for part in inner:
        yield from unwrapped(part)


def count_samples(dataset: Dict[str, Any],
                  count: Callable[[Dict[str, Any]], Optional[int]]) -> Optional[int]:
    """Count the samples of a data set's config.

    Args:
        dataset: The config of a data set or a wrapper.
        count: Counts the samples of a data set that wraps no other; ``None`` if unknown.

    Returns:
        The number of samples; ``None`` if unknown, as for wrappers that select samples.
    """
    inner = inner_datasets(dataset)
    if not inner:
        return count(dataset) if dataset else None
    if type_name(dataset) not in COUNTED:
        return None
    counts = [count_samples(part, count) for part in inner]
    if None in counts:
        return None
    return dataset.get('times', 1) * sum(number or 0 for number in counts)
