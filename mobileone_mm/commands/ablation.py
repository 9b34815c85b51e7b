"""Train variants of one config with several seeds: the paper's ablations, on any data set."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from ..utils.fileio import atomic_path

__all__ = ['VARIANTS', 'Variant', 'last_value', 'make_variant', 'run_ablation', 'write_variants']


class Variant(NamedTuple):
    """One change to a config: options of the model's backbone, or another hook.

    ``change`` turns the config of ``hook`` into a new one, or into None to remove it.
    """

    about: str
    backbone: Dict[str, Any] = {}
    hook: Optional[str] = None
    change: Callable[[Dict[str, Any]], Optional[Dict[str, Any]]] = lambda hook: None


VARIANTS: Dict[str, Variant] = {
    'baseline': Variant('the config as it is'),
    **{f'k{k}': Variant(f'{k} convolutional branches (Table 6)', dict(num_conv_branches=k))
       for k in range(1, 6)},
    'no_scale': Variant('without the 1x1 branch', dict(use_scale_branch=False)),
    'no_skip': Variant('without the skip branch', dict(use_skip_branch=False)),
    'plain': Variant('one convolution and no other branch (Table 5)', dict(
        num_conv_branches=1, use_scale_branch=False, use_skip_branch=False)),
    # Norms and biases keep a decay of 0: removing the hook would change two things.
    'no_annealing': Variant('constant weight decay (Table 8)', hook='WeightDecayAnnealingHook',
                            change=lambda hook: dict(hook, min_ratio=1.)),
    'no_progressive': Variant(
        'full resolution and augmentation throughout (Table 8)', hook='ProgressiveLearningHook',
        change=lambda hook: dict(hook, stages=[dict(hook['stages'][-1], epoch=1)])),
    'no_ema': Variant('without averaged weights (Table 8)', hook='EMAHook'),
}
Result = Dict[str, Any]


def make_variant(cfg: Config, name: str) -> Config:
    """Make the config of a variant.

    Raises:
        ValueError: The variant is unknown, or the config lacks the hook to change.
    """
    if name not in VARIANTS:
        raise ValueError(f'unknown variant {name!r}: expected some of {", ".join(VARIANTS)}')
    variant, cfg = VARIANTS[name], copy.deepcopy(cfg)
    cfg.model.backbone.update(variant.backbone)
    if variant.hook:
        _change_hook(cfg, variant, name)
    return cfg


def write_variants(cfg: Config, names: Sequence[str], out: Union[str, Path]) -> List[Path]:
    """Write the config of each variant to ``out/NAME.py``; raises like :func:`make_variant`."""
    variants = {Path(out) / f'{name}.py': make_variant(cfg, name) for name in names}
    for file, variant in variants.items():
        _write_config(variant, file)
    return list(variants)


def run_ablation(cfg: Config,
                 names: Sequence[str],
                 seeds: Sequence[int],
                 out: Union[str, Path],
                 train: Callable[[List[str]], Any],
                 report: Callable[[str], None] = print) -> List[Result]:
    """Train every variant with every seed, one after the other, and keep the final metric.

    A second call continues where the first one stopped, even in the middle of a run.

    Args:
        cfg: The complete config that the variants change.
        names: Names in ``VARIANTS``.
        seeds: The same for all variants, so that their differences can be paired.
        out: Directory of runs and of ``results.json``.
        train: :func:`mobileone_mm.commands.train_test.train`, or a function with its arguments.
        report: Called with a line about each run.

    Returns:
        One dict per run: variant, seed, metric (its name) and value in the last validation.

    Raises:
        ValueError: A variant is impossible, a name or seed is repeated, or ``out`` holds results of
            another config.
    """
    for what, values in (('variant', names), ('seed', seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f'need at least one {what}, each once, got {list(values)}')
    variants = {name: make_variant(cfg, name) for name in names}  # all configs before any work
    metric = _metric(cfg)
    out = Path(out)
    results = _read_results(out, cfg)
    runs = [(name, seed) for seed in seeds for name in names]  # one seed after the other
    for number, (name, seed) in enumerate(runs, start=1):
        head = f'[{number}/{len(runs)}] {name}, seed {seed}'
        value = results.get(_key(name, seed))
        if value is None:
            report(f'{head}: training')
            value = _run(variants[name], out / name / f'seed{seed}', seed, metric, train)
            results[_key(name, seed)] = value
            _write_results(out, cfg, results)
        report(f'{head}: {metric} {value:.4g}')
    return [dict(variant=name, seed=seed, metric=metric, value=results[_key(name, seed)])
            for name, seed in runs]


def _change_hook(cfg: Config, variant: Variant, name: str) -> None:
    found = []

    def changed(hook: Any) -> Any:
        if not hook or str(hook.get('type')).rsplit('.', 1)[-1] != variant.hook:
            return hook
        found.append(hook)
        return variant.change(hook)
    default = {key: changed(hook) for key, hook in (cfg.get('default_hooks') or {}).items()}
    custom = [changed(hook) for hook in cfg.get('custom_hooks') or []]
    if not found:
        raise ValueError(f'the variant {name} changes {variant.hook}, which the config does not '
                         'have')
    cfg.default_hooks = {key: hook for key, hook in default.items() if hook is not None}
    cfg.custom_hooks = [hook for hook in custom if hook is not None]


def _metric(cfg: Config) -> str:
    metric = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    if not isinstance(metric, str) or metric == 'auto':
        raise ValueError('the config must name the metric to compare, as '
                         f'default_hooks.checkpoint.save_best; got {metric!r}')
    return metric


def _run(cfg: Config, work_dir: Path, seed: int, metric: str, train: Callable) -> float:
    cfg = copy.deepcopy(cfg)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    # mmengine keeps one message hub per name and process.
    cfg.experiment_name = f'{work_dir.parent.name}-{work_dir.name}-{work_dir.resolve()}'
    config = work_dir / 'config.py'
    _write_config(cfg, config)
    train([str(config), '--work-dir', str(work_dir), '--resume'])
    return last_value(work_dir, metric)


def _write_config(cfg: Config, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as path:
        path.write_text(cfg.pretty_text, encoding='utf-8')


def last_value(work_dir: Path, metric: str) -> float:
    """The last value of a metric in the logs of a work directory.

    Raises:
        ValueError: No log has the metric.
    """
    found = None
    for path in sorted(work_dir.glob('*/vis_data/*.json')):  # named by start time
        if path.name == 'config.json':
            continue
        for line in path.read_text().splitlines():
            record = json.loads(line) if line.endswith('}') else {}
            found = record.get(metric, found)
    if found is None:
        raise ValueError(f'no validation in {work_dir} reported {metric}: is val_interval longer '
                         'than the training?')
    return float(found)


def _key(name: str, seed: int) -> str:
    return f'{name}/seed{seed}'


def _identity(cfg: Config) -> str:
    return hashlib.sha256(json.dumps(cfg.to_dict(), sort_keys=True, default=str).encode()
                          ).hexdigest()


def _read_results(out: Path, cfg: Config) -> Dict[str, float]:
    file = out / 'results.json'
    if not file.exists():
        return {}
    content = json.loads(file.read_text())
    if content['config'] != _identity(cfg):
        raise ValueError(f'{file} holds results of another config or other options: choose '
                         'another output directory')
    return content['results']


def _write_results(out: Path, cfg: Config, results: Dict[str, float]) -> None:
    with atomic_path(out / 'results.json') as path:
        path.write_text(json.dumps(dict(config=_identity(cfg), results=results), indent=1))


def split_by_variant(results: Sequence[Result]) -> Tuple[List[str], List[List[float]]]:
    """Values by name, in the order of the seeds."""
    values: Dict[str, List[float]] = {}
    for result in results:
        values.setdefault(result['variant'], []).append(result['value'])
    return list(values), list(values.values())
