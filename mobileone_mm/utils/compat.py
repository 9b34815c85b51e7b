"""What mmengine 0.10 needs help with: checkpoints, copies of configs, mmseg under another name."""

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
    """Let mmengine read every checkpoint with :func:`read_checkpoint`.

    ``load_from``, ``resume`` and ``init_cfg`` of any model then run nothing that is pickled:
    mmengine itself leaves that to torch's default, which up to torch 2.5 runs it, and from 2.6 on
    refuses mmengine's own training checkpoints for the logged scalars in them.
    """
    loader = mmengine_checkpoint.CheckpointLoader
    loader.register_scheme('', load_from_file, force=True)
    loader.register_scheme(('http://', 'https://'), load_from_file, force=True)
    loader.register_scheme(REMOTE, load_from_remote, force=True)
    # What mmengine turns open-mmlab://, torchvision:// and mmcls:// into goes here.
    mmengine_checkpoint.load_from_http = load_from_file


def find_forks() -> None:
    """Let ``mmseg::...`` in a config find a fork, such as onedl-mmsegmentation.

    mmengine looks for a distribution named mmsegmentation, or else for a module of that name. Where
    mmseg is there without such a distribution, it shall look for the module ``mmseg``.
    """
    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'


def escape_templates() -> None:
    """Let the text of a config give an equal one when it is read.

    mmengine copies a config into work directories, checkpoints and logs, and replaces
    ``{{ variables }}`` when it reads such a copy, also within strings. These may be a user's data,
    names of classes for example, and some would become code.
    """
    original: Any = Config.pretty_text.fget
    Config.pretty_text = property(lambda cfg: original(cfg).replace('{{', '{\\x7b'))


def load_from_file(filename: str, map_location: Any = None, **_: Any) -> Any:
    """Replaces mmengine's, which logs what follows ``load_from_``."""
    return read_checkpoint(filename)


def load_from_remote(filename: str, map_location: Any = None, **_: Any) -> Any:
    with get_local_path(filename) as path:
        return read_checkpoint(path)
