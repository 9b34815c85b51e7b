"""Help mmengine 0.10 to read checkpoints, and to find mmseg under another name."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import get_local_path
from mmengine.runner import checkpoint as mmengine_checkpoint

from .checkpoint_files import read_checkpoint

__all__ = ['find_forks', 'read_all_checkpoints']

REMOTE = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def read_all_checkpoints() -> None:
    """Make mmengine read all checkpoints with :func:`read_checkpoint`.

    Then ``load_from``, ``resume`` and ``init_cfg`` of any model run nothing that is pickled.
    mmengine uses torch's default: up to torch 2.5 it runs everything, and from 2.6 on it refuses
    mmengine's own training checkpoints because of their logged scalars.
    """
    loader = mmengine_checkpoint.CheckpointLoader
    loader.register_scheme('', _load_checkpoint, force=True)
    loader.register_scheme(('http://', 'https://'), _load_checkpoint, force=True)
    loader.register_scheme(REMOTE, _load_remote, force=True)
    # mmengine turns open-mmlab://, torchvision:// and mmcls:// into these.
    mmengine_checkpoint.load_from_http = _load_checkpoint


def find_forks() -> None:
    """Make ``mmseg::...`` in a config find a fork such as onedl-mmsegmentation.

    mmengine looks for a distribution named mmsegmentation, then for a module of that name. If mmseg
    is installed without that distribution, this makes it look for the module ``mmseg``.
    """
    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'


def _load_checkpoint(filename: str, map_location: Any = None, **_: Any) -> Any:
    """Replaces mmengine's function; the caller decides on the weights' device."""
    return read_checkpoint(filename)


def _load_remote(filename: str, map_location: Any = None, **_: Any) -> Any:
    with get_local_path(filename) as path:
        return read_checkpoint(path)
