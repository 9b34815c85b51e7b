"""``--cfg-options``: every option takes effect or is refused."""

import argparse
import difflib
import inspect
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple, Union

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from .errors import PreflightError

__all__ = ['apply_options', 'check_settings', 'parse_options']

Options = Union[Mapping[str, Any], Sequence[str], None]

# Keys that are read: the Runner's arguments, what it looks up itself, and what our tools read.
READ = {*inspect.signature(Runner.__init__).parameters, 'activation_checkpointing', 'compile',
        'custom_imports', 'data_root', 'efficient_conv_bn_eval', 'find_unused_parameters',
        'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline'}
PRETRAINED = ('checkpoint', 'prefix', 'unfold', 'sha256', 'weights_only')
MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                  'checkpoint')
OWN_HOOKS = ('run_pictures', )  # tools/train.py adds it unless it is None
LEAST = {'train_cfg.max_epochs': 1, 'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1,
         **{f'{part}_dataloader.{name}': least for part in ('train', 'val', 'test')
            for name, least in (('batch_size', 1), ('num_workers', 0))}}


def parse_options(options: Options) -> Dict[str, Any]:
    """``['key=value', ...]`` as a dictionary; a dictionary is returned as it is.

    Raises:
        PreflightError: An option is not of the form ``KEY=VALUE``.
    """
    if not options:
        return {}
    if isinstance(options, Mapping):
        return dict(options)
    for option in options:
        if not option.partition('=')[0].strip() or '=' not in option:
            raise PreflightError(f'--cfg-options {option}: expected KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    return parser.parse_args(['--options', *options]).options


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge dotted keys into a config like mmengine, but refuse keys without effect.

    mmengine accepts any key. There the file's own variables, such as ``train_pipeline``, have no
    effect, since the settings made from them are copies. Here a pipeline, or another part that is
    built, is changed wherever it was used, and other variables are refused. So are misspelled keys.
    ``init_cfg.checkpoint`` turns any ``init_cfg`` into a ``Pretrained``, and
    ``default_hooks.NAME=None`` removes any hook.

    Args:
        cfg: The config, changed in place.
        options: Dotted keys and values.

    Raises:
        PreflightError: A key has no effect.
    """
    for key in options:
        _check_key(cfg, key)
        _make_pretrained(cfg, key.split('.'))
    variables = {key.split('.')[0] for key in options} - READ
    before = {name: cfg.to_dict()[name] for name in variables}
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError) as error:
        raise PreflightError(f'--cfg-options {" ".join(options)}: {error.args[0]}') from error
    for name, old in before.items():
        if not _replace(cfg, old, cfg[name], skip=name):
            raise PreflightError(f'--cfg-options {name}: a variable of the config file from which '
                                 'nothing was taken as it is: change the file')
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in (*MMENGINE_HOOKS, *OWN_HOOKS):  # mmengine leaves out its own only
            del hooks[name]


def check_settings(cfg: Config) -> None:
    """Check the numbers that set the length of a run and the data loaders.

    Without workers, ``persistent_workers`` is reset.

    Raises:
        PreflightError: A value is too small or not a number.
    """
    for key, least in LEAST.items():
        part, name = key.split('.')
        value = _part(cfg, part).get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise PreflightError(f'{key}={value!r}: expected a whole number of at least {least}')
    for part in ('train', 'val', 'test'):
        loader = _part(cfg, f'{part}_dataloader')
        if loader.get('num_workers') == 0 and loader.get('persistent_workers'):
            loader['persistent_workers'] = False


def _part(cfg: Config, name: str) -> Any:
    part = cfg.get(name)
    return part if isinstance(part, Mapping) else {}


def _check_key(cfg: Config, key: str) -> None:
    """Refuse a key that nothing reads: a variable, or a misspelled name."""
    top, *rest = key.split('.')
    if top not in READ and top not in cfg:
        raise PreflightError(f'--cfg-options {key}: nothing reads {top!r}'
                             f'{_suggestion(top, READ | set(cfg))}')
    if top not in READ and not _is_built(cfg[top]):
        places = [place for place, value in _walk(cfg.to_dict(), '') if value == cfg[top]
                  and place.split('.')[0] in READ][:5]
        raise PreflightError(
            f'--cfg-options {key}: {top} is a variable of the config file, which nothing reads '
            'once that has been read: change the file, or give the settings that it went into'
            + (f'; {", ".join(places)} have the same value' if places else ''))
    node: Any = cfg[top] if top in cfg else None
    for i, name in enumerate(rest):
        if isinstance(node, (list, tuple)):
            node = node[int(name)] if name.isdigit() and int(name) < len(node) else None
        elif isinstance(node, Mapping):
            if name not in node and 'type' not in node:  # parts with a type check their arguments
                close = _suggestion(name, set(node))
                if close:
                    raise PreflightError(f'--cfg-options {key}: {".".join([top, *rest[:i]])} has '
                                         f'no {name!r}{close}')
            node = node.get(name)
        else:
            return


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [str(k) for k in known], 1, cutoff=.8)
    return f': did you mean {close[0]!r}?' if close else ''


def _is_built(value: Any) -> bool:
    """Whether a variable is a part to build, or a list of these like a pipeline."""
    if isinstance(value, Mapping):
        return 'type' in value
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_built, value))


def _walk(node: Any, where: str) -> Iterator[Tuple[str, Any]]:
    items = node.items() if isinstance(node, Mapping) else (
        enumerate(node) if isinstance(node, (list, tuple)) else ())
    for key, value in items:
        place = f'{where}.{key}' if where else str(key)
        yield place, value
        yield from _walk(value, place)


def _replace(node: Any, old: Any, new: Any, skip: str = '') -> int:
    """Replace ``old`` by ``new`` everywhere; returns how often."""
    items: List[Tuple[Any, Any]] = list(node.items()) if isinstance(node, (Mapping, Config)) else (
        list(enumerate(node)) if isinstance(node, list) else [])
    count = 0
    for key, value in items:
        if key == skip:
            continue
        if value == old:
            node[key] = new
            count += 1
        else:
            count += _replace(value, old, new)
    return count


def _make_pretrained(cfg: Config, names: List[str]) -> None:
    """Let ``....init_cfg.checkpoint=FILE`` replace a list or another type."""
    if names[-2:-1] != ['init_cfg'] or names[-1] not in PRETRAINED:
        return
    owner: Any = cfg
    for name in names[:-2]:
        owner = owner.get(name) if isinstance(owner, (Mapping, Config)) else None
    if isinstance(owner, dict):
        present = owner.get('init_cfg')
        if not isinstance(present, Mapping) or present.get('type') != 'Pretrained':
            owner['init_cfg'] = ConfigDict(type='Pretrained')
