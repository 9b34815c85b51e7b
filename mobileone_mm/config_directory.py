"""Where the package's configs are."""

from pathlib import Path

__all__ = ['config_directory']


def config_directory(task: str) -> Path:
    """A folder of configs: beside the package in a clone, or in it, where a wheel has them.

    Args:
        task: ``'detection'``, ``'segmentation'``, ``'classification'`` or ``'deploy'``.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    package = Path(__file__).resolve().parent
    for root in (package.parent, package / '.mim'):
        if (root / 'configs' / task).is_dir():
            return root / 'configs' / task
    raise FileNotFoundError(
        f'configs/{task} is neither beside nor in {package}: reinstall mobileone_mm')
