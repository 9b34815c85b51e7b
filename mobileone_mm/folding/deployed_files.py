"""Write the two files of a deployed model: the folded weights and their config."""

import copy
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from ..utils.checkpoint_files import CheckpointError, is_folded
from ..utils.configs import type_name
from ..utils.fileio import atomic_path
from .models import build_model, load_weights
from .reparameterize import reparameterize

TRAINING_HOOKS = ('EMAHook', 'ReparameterizeHook')


class DeployedFiles(NamedTuple):
    """The files that :func:`write_deployed` wrote, and what folding saved."""

    weights: Path
    config: Path
    parameters: int
    bytes: int
    parameters_before: int
    bytes_before: int

    def __str__(self) -> str:
        return (f'{self.weights} and {self.config.name}: parameters {self.parameters_before:,} -> '
                f'{self.parameters:,}, weights {self.bytes_before:,} -> {self.bytes:,} bytes')


def deployed_config(cfg: Config, fuse_conv_bn: bool = False) -> Config:
    """The config of the folded form of ``cfg.model``, for testing and inference.

    Every MobileOne gets ``deploy=True`` and no initial weights. Hooks that change a model during
    training (EMA, folding) are removed, and so is the wrapper of a resumable training's data, which
    mmdet's and mmseg's own tools do not look into.

    Args:
        cfg: A complete config, which is not changed.
        fuse_conv_bn: Whether the batch norms of neck and head are folded too, so that their
            ``norm_cfg`` goes.

    Raises:
        ValueError: ``cfg`` has no ``model``.
    """
    if 'model' not in cfg:
        raise ValueError('the config has no `model`, so no config for its folded form can be '
                         'written: build the Runner with Runner.from_cfg')
    cfg = copy.deepcopy(cfg)
    _set_deploy(cfg.model, fuse_conv_bn)
    cfg.load_from, cfg.resume, cfg.launcher = None, False, 'none'
    drop_training_hooks(cfg)
    loader = cfg.get('train_dataloader') or ConfigDict()
    if type_name(loader.get('dataset') or {}) == 'SeededDataset':
        loader.dataset = loader.dataset.dataset
    return cfg


def drop_training_hooks(cfg: Config) -> None:
    """Remove the hooks that change a model during training (EMA, folding) from a config."""
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or []
                        if type_name(hook) not in TRAINING_HOOKS]
    cfg.default_hooks = {name: hook for name, hook in (cfg.get('default_hooks') or {}).items()
                         if type_name(hook) not in TRAINING_HOOKS}


def write_deployed(model: nn.Module,
                   cfg: Config,
                   checkpoint: Union[str, Path],
                   out: Union[str, Path],
                   half: bool = False,
                   fuse_conv_bn: bool = False,
                   verify: Optional[Callable[[nn.Module, nn.Module], Any]] = None) -> DeployedFiles:
    """Fold a checkpoint, and write it with its config. Each file is complete or absent.

    The weights come from ``state_dict``, where mmengine stores the averaged ones with EMAHook.
    Optimizer, schedulers, message hub and the weights before averaging are left out.

    Args:
        model: The unfolded model of ``cfg``; the checkpoint overwrites its weights.
        cfg: The config of ``model``.
        checkpoint: A checkpoint that mmengine saved for this config.
        out: Path of the folded weights; the config goes beside it, with the suffix ``.py``.
        half: Store float16, cast after folding.
        fuse_conv_bn: As in :func:`mobileone_mm.folding.reparameterize.reparameterize`.
        verify: Called with the unfolded and the folded model before anything is written; it
            raises to refuse them.

    Returns:
        The paths, and sizes before and after.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        CheckpointError: It cannot be read, belongs to another model or is already folded.
        ValueError: ``out`` does not end in ``.pth`` or would overwrite an input, or a weight does
            not fit into float16.
    """
    out = Path(out)
    _check_out(out, checkpoint, cfg.filename)
    if is_folded(model.state_dict()):
        raise ValueError('the config builds a folded model (deploy=True): give the config that the '
                         'checkpoint was trained with')
    config = deployed_config(cfg, fuse_conv_bn).pretty_text
    meta = load_weights(model, checkpoint)
    model.eval()
    folded = reparameterize(model, fuse_conv_bn=fuse_conv_bn)
    if verify is not None:
        verify(model, folded)
    weights = weights_to_cpu(folded.state_dict())
    if half:
        weights = _to_half(weights)
    meta['cfg'] = config  # mmdet's and mmseg's inferencers read it
    out.parent.mkdir(parents=True, exist_ok=True)
    # The config comes first, so that the weights are never without it.
    with atomic_path(out.with_suffix('.py')) as path:
        path.write_text(config, encoding='utf-8')
    with atomic_path(out) as path:
        torch.save(dict(meta=meta, state_dict=weights), path)
    return DeployedFiles(out, out.with_suffix('.py'), _count(folded), _bytes(weights),
                         _count(model), _bytes(model.state_dict()))


def check_loads(folded: nn.Module, config: Config) -> None:
    """Build the model of a deploy config and load the folded weights into it.

    Raises:
        CheckpointError: They do not fit.
    """
    try:
        build_model(config).load_state_dict(folded.state_dict(), strict=True)
    except RuntimeError as error:
        raise CheckpointError('the deploy config cannot build this folded model: some part has '
                              f'batch norms that its config does not control. {error}') from error


def _check_out(out: Path, *inputs: Any) -> None:
    if out.suffix != '.pth':
        raise ValueError(f'the folded weights must be named *.pth, got {out}')
    written = {path.resolve() for path in (out, out.with_suffix('.py'))}
    for path in inputs:
        if path and Path(path).resolve() in written:
            raise ValueError(f'{out} would overwrite the input {path}: choose another name')


def _to_half(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    for key, value in half.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f'{key} holds values beyond the range of float16 (65504): store '
                             'float32 instead')
    return half


def _set_deploy(node: Any, fuse_conv_bn: bool) -> None:
    """Switch every MobileOne in a nested config; see :func:`deployed_config`."""
    if isinstance(node, dict):
        if type_name(node) == 'MobileOne':
            node['deploy'], node['init_cfg'] = True, None
            return
        if fuse_conv_bn and 'norm_cfg' in node:
            node['norm_cfg'] = None
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            _set_deploy(child, fuse_conv_bn)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _bytes(weights: Dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
