"""Help mmengine 0.10 with checkpoints, copies of configs, and mmseg under another name."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import get_local_path
from mmengine.runner import checkpoint as mmengine_checkpoint

from .checkpoint_files import read_checkpoint

__all__ = ['escape_templates', 'find_forks', 'read_all_checkpoints']

REMOTE = (r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def read_all_checkpoints() -> None:
    """Make mmengine read all checkpoints with :func:`read_checkpoint`.

    Then ``load_from``, ``resume`` and ``init_cfg`` of any model run nothing that is pickled.
    mmengine uses torch's default: up to torch 2.5 it runs everything, and from 2.6 on it refuses
    mmengine's own training checkpoints because of their logged scalars.
    """
    loader = mmengine_checkpoint.CheckpointLoader
    loader.register_scheme('', load_from_file, force=True)
    loader.register_scheme(('http://', 'https://'), load_from_file, force=True)
    loader.register_scheme(REMOTE, load_from_remote, force=True)
    # mmengine turns open-mmlab://, torchvision:// and mmcls:// into these.
    mmengine_checkpoint.load_from_http = load_from_file


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


def escape_templates() -> None:
    """Make the text of a config read back as an equal config.

    mmengine copies configs into work directories, checkpoints and logs. When it reads such a copy,
    it replaces ``{{ variables }}``, even within strings. These may be the user's, for example names
    of classes, and some would become code.
    """
    original: Any = Config.pretty_text.fget
    Config.pretty_text = property(lambda cfg: original(cfg).replace('{{', '{\\x7b'))


def load_from_file(filename: str, map_location: Any = None, **_: Any) -> Any:
    """Replaces mmengine's function, which logs the part of the name after ``load_from_``."""
    return read_checkpoint(filename)


def load_from_remote(filename: str, map_location: Any = None, **_: Any) -> Any:
    with get_local_path(filename) as path:
        return read_checkpoint(path)
