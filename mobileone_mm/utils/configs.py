"""Find the package's configs, and read any config."""

import ast
from pathlib import Path
from typing import Any, Union

from mmengine.config import Config

from .config_options import Options, apply_options, check_settings, parse_options
from .errors import PreflightError
from .libraries import check_library

__all__ = ['config_directory', 'parse_config', 'read_config', 'type_name']


def config_directory(task: str) -> Path:
    """The folder of configs: beside the package in a clone, inside it in a wheel.

    Args:
        task: ``'detection'``, ``'segmentation'``, ``'classification'`` or ``'deploy'``.

    Raises:
        FileNotFoundError: The folder is in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent, package / '.mim'):
        if (root / 'configs' / task).is_dir():
            return root / 'configs' / task
    raise FileNotFoundError(
        f'configs/{task} is neither beside nor in {package}: reinstall mobileone_mm')


def parse_config(path: Union[str, Path]) -> Config:
    """Read a config file as it is.

    Raises:
        FileNotFoundError: The file does not exist.
        PreflightError: It is not a config, has a syntax error, or its library is missing.
    """
    if Path(path).is_file() and Path(path).suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise PreflightError(f'{path} is not a config: expected a .py, .json or .yaml file')
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        raise PreflightError(_syntax_problem(Path(path)) or f'{path}: {error}') from error
    except (ImportError, LookupError) as error:  # includes mmengine's PackageNotFoundError
        for scope in ('mmdet', 'mmseg', 'mmpretrain'):
            if scope in str(error):
                check_library(scope)
        raise
    except (AttributeError, NameError, RecursionError, TypeError, ValueError) as error:  # its code
        raise PreflightError(f'{path}: {type(error).__name__}: {error}') from error


def _syntax_problem(path: Path) -> str:
    """The location of a syntax error, in a config or in a local file that it is based on."""
    try:
        body = ast.parse(path.read_text(encoding='utf-8')).body
    except SyntaxError as error:  # mmengine does not name the file
        return f'{path}, line {error.lineno}: {error.msg}'
    for node in body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if (path.parent / base).is_file():
                    found = _syntax_problem(path.parent / base)
                    if found:
                        return found
    return ''


def read_config(path: Union[str, Path], cfg_options: Options = None) -> Config:
    """Read a config, check that its library is installed, and apply options.

    Args:
        path: The file.
        cfg_options: Dotted keys and values, as a dictionary or as ``KEY=VALUE`` each; ``data_root``
            moves every path below the config's data root.

    Raises:
        PreflightError: The config's library is missing, an option has no effect, or a run would
            have no iterations.
    """
    cfg = parse_config(path)
    options = parse_options(cfg_options)
    if 'data_root' in options:
        _move_root(cfg, options['data_root'])
    apply_options(cfg, options)
    check_settings(cfg)
    check_library(cfg.get('default_scope'))
    return cfg


def _move_root(cfg: Config, new: Any) -> None:
    old = cfg.get('data_root')
    if not isinstance(new, str) or not old or _move_data(cfg, old, new) < 2:  # 1 is its own
        raise PreflightError(f'--cfg-options data_root={new}: no path of the config lies below its '
                             f'data_root, which is {old!r}: change the paths of its data sets')


def _move_data(node: Any, old: str, new: str) -> int:
    """Replace the start of every path below the old data root; returns how many there were."""
    count = 0
    old, new = old.rstrip('/'), new.rstrip('/')
    items = node.items() if isinstance(node, (dict, Config)) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, str) and (value.rstrip('/') == old or value.startswith(old + '/')):
            node[key] = new + value[len(old):]
            count += 1
        elif isinstance(value, (dict, list)):
            count += _move_data(value, old, new)
    return count


def type_name(cfg: Any) -> str:
    """``'EMAHook'`` for ``type='mmengine.EMAHook'`` and for the class itself."""
    kind = cfg.get('type', '') if isinstance(cfg, dict) else type(cfg)
    return str(getattr(kind, '__name__', kind)).rsplit('.', 1)[-1]
