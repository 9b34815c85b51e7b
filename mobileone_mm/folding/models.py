"""Build the model of a config, and load a checkpoint into it, all of it or nothing."""

import copy
import re
from pathlib import Path
from typing import Any, Dict, Mapping, Union

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..utils.checkpoint_files import CheckpointError, is_folded, read_checkpoint, unwrap


class NonFiniteWeightsError(CheckpointError):
    """Weights are NaN or infinite, so that whatever is computed with them means nothing."""


def build_model(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` in its own scope (mmdet, mmseg, ...) as the Runner does, on the CPU."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def load_weights(model: nn.Module, checkpoint: Union[str, Path]) -> Dict[str, Any]:
    """Load the weights, all of them or none; return the checkpoint's ``meta``.

    Raises:
        CheckpointError: The file is unreadable, or not of this model, or its weights are NaN or
            infinite.
        FileNotFoundError: There is no such file.
    """
    content = read_checkpoint(checkpoint)
    weights = {re.sub(r'^module\.', '', k): v for k, v in unwrap(content, str(checkpoint)).items()}
    own = model.state_dict()
    if is_folded(weights) and not is_folded(own):
        raise CheckpointError(f'{checkpoint} is folded already: test it as it is, with the config '
                              'that was written beside it')
    problems = {
        'missing': [k for k in own if k not in weights and 'num_batches_tracked' not in k],
        'unknown': [k for k in weights if k not in own],
        'of another shape': [k for k in own if k in weights and own[k].shape != weights[k].shape],
    }
    found = [f'{len(keys)} {kind} ({keys[0]}, ...)' for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(f'{checkpoint} is not of the model that the config builds: of '
                              f'{len(own)} weights {", ".join(found)}')
    check_finite({key: weights[key] for key in own if key in weights}, str(checkpoint))
    model.load_state_dict(weights, strict=False)
    return dict(content.get('meta') or {})


def check_finite(weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are not numbers.

    Args:
        weights: A state dict.
        name: Whose they are, for the message.

    Raises:
        NonFiniteWeightsError: One is NaN or infinite; names the first.
    """
    floats = {key: value for key, value in weights.items() if value.is_floating_point()}
    if not floats:
        return
    finite = torch.stack([value.isfinite().all() for value in floats.values()]).tolist()
    wrong = [key for key, good in zip(floats, finite) if not good]
    if wrong:
        kind = 'NaN' if floats[wrong[0]].isnan().any() else 'infinite'
        raise NonFiniteWeightsError(
            f'{name}: the weights are {kind}, {wrong[0]} first ({len(wrong)} of {len(floats)} '
            'tensors): the training diverged. Go back to an earlier checkpoint, and train with a '
            'lower learning rate or with clip_grad')
