"""Build the model of a config, and load a checkpoint into it completely or not at all."""

import copy
from pathlib import Path
from typing import Any, Dict, List, Union

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..utils.checkpoint_files import (
    CheckpointError,
    check_finite,
    is_folded,
    read_checkpoint,
    unwrap,
)
from ..utils.errors import PreflightError


def build_model(cfg: Config) -> BaseModel:
    """Build ``cfg.model`` on the CPU, in its own scope (mmdet, mmseg, ...) like the Runner.

    Raises:
        PreflightError: There is no ``cfg.model``.
    """
    if not cfg.get('model'):
        raise PreflightError(f'{cfg.filename or "the config"} has no model')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def load_weights(model: nn.Module, checkpoint: Union[str, Path]) -> Dict[str, Any]:
    """Load the weights, all of them or none; return the checkpoint's ``meta``.

    Raises:
        CheckpointError: The file is unreadable or belongs to another model, or its weights are NaN
            or infinite.
        FileNotFoundError: The file does not exist.
    """
    content = read_checkpoint(checkpoint)
    weights = unwrap(content, str(checkpoint))
    own = model.state_dict()
    if is_folded(weights) and not is_folded(own):
        raise CheckpointError(f'{checkpoint} is already folded: test it as it is, with the config '
                              'that was written beside it')
    found = misfits(own, weights)
    if found:
        raise CheckpointError(f'{checkpoint} is not of the model that the config builds: of '
                              f'{len(own)} weights {", ".join(found)}')
    check_finite(weights, str(checkpoint))
    model.load_state_dict(weights)  # counts batches of norms from 0 where the weights do not
    meta = content.get('meta')
    return dict(meta) if isinstance(meta, dict) else {}


def misfits(own: Dict[str, Tensor], weights: Dict[str, Tensor]) -> List[str]:
    """How the state dicts of a model and a checkpoint differ in names or shapes, in words."""
    problems = {
        'missing': [k for k in own if k not in weights and 'num_batches_tracked' not in k],
        'unknown': [k for k in weights if k not in own],
        'of another shape': [k for k in own if k in weights and own[k].shape != weights[k].shape],
    }
    return [f'{len(keys)} {kind} ({keys[0]}, ...)' for kind, keys in problems.items() if keys]
