"""Data sets that wrap others, as configs and as what is built of them."""

from typing import Any, List

__all__ = ['inner_datasets']


def inner_datasets(dataset: Any) -> List[Any]:
    """The data sets that a wrapper holds, or none.

    Args:
        dataset: A config, or a data set. Of wrappers like mmengine's RepeatDataset and
            ConcatDataset, mmdet's MultiImageMixDataset, and mmengine's ``num_batch_per_epoch``.
    """
    parts = dataset if isinstance(dataset, dict) else getattr(dataset, '__dict__', {})
    several = parts.get('datasets') or ()
    found = [parts.get('dataset'), *several, parts.get('_dataset')]
    return [part for part in found if part is not None]
