"""Find the package's configs, and read any config."""

from pathlib import Path
from typing import Any, Dict, Optional, Union

from mmengine.config import Config

from .libraries import check_library

__all__ = ['config_directory', 'read_config']


def config_directory(task: str) -> Path:
    """A folder of configs: beside the package in a clone, or in it, where a wheel has them.

    Args:
        task: ``'detection'``, ``'segmentation'``, ``'classification'`` or ``'deploy'``.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent, package / '.mim'):
        if (root / 'configs' / task).is_dir():
            return root / 'configs' / task
    raise FileNotFoundError(
        f'configs/{task} is neither beside nor in {package}: reinstall mobileone_mm')


def read_config(path: Union[str, Path], cfg_options: Optional[Dict[str, Any]] = None) -> Config:
    """Read a config and apply options; its library is then known to be installed.

    Args:
        path: The file.
        cfg_options: Dotted keys and values; ``data_root`` moves every path below the config's.

    Raises:
        PreflightError: The config's library is missing.
    """
    try:
        cfg = Config.fromfile(path)
    except (ImportError, LookupError) as error:  # also mmengine's PackageNotFoundError
        for scope in ('mmdet', 'mmseg', 'mmpretrain'):
            if scope in str(error):
                check_library(scope)
        raise
    options = dict(cfg_options or {})
    if 'data_root' in options and cfg.get('data_root'):
        _move_data(cfg, cfg.data_root, options['data_root'])
    _let_checkpoint_replace(cfg, options)
    cfg.merge_from_dict(options)
    check_library(cfg.get('default_scope'))
    return cfg


def _let_checkpoint_replace(cfg: Config, options: Dict[str, Any]) -> None:
    """Let ``model.backbone.init_cfg.checkpoint=FILE`` say all, whatever the config has there.

    Configs that train from scratch have a list of initializers, or None, into which mmengine could
    not merge a file.
    """
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    init_cfg = backbone.get('init_cfg')
    if 'model.backbone.init_cfg.checkpoint' in options and not (
            isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained'):
        backbone['init_cfg'] = dict(type='Pretrained')


def _move_data(node: Any, old: str, new: str) -> None:
    """Replace the start of every path below the old data root."""
    old, new = old.rstrip('/'), new.rstrip('/')
    items = node.items() if isinstance(node, (dict, Config)) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, str) and (value.rstrip('/') == old or value.startswith(old + '/')):
            node[key] = new + value[len(old):]
        elif isinstance(value, (dict, list)):
            _move_data(value, old, new)
