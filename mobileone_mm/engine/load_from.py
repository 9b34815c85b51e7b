"""Check that a run can start from the checkpoint in ``load_from``."""

import re
from typing import Any, Mapping

from torch import nn

from ..utils.checkpoint_files import CheckpointError, check_finite, is_folded, unwrap
from ..utils.messages import shorten

__all__ = ['check_load_from']


def check_load_from(model: nn.Module, content: Any, checkpoint: str) -> None:
    """Check that a checkpoint holds the model's backbone, with the names that mmengine loads.

    mmengine loads what fits and warns about the rest, key by key. From another kind of file it
    loads nothing, and training starts from random weights. Heads may differ, for example because
    of other classes.

    Args:
        model: The model to train, without wrappers.
        content: The content of the file, from ``read_checkpoint``.
        checkpoint: Its path or URL, for the message.

    Raises:
        CheckpointError: It has no state dict, its weights are NaN, or a weight of the backbone (of
            the model, if it has none) is missing or has another shape.
    """
    weights = unwrap(content, checkpoint)
    check_finite(weights, checkpoint)
    loaded: Any = content.get('state_dict', content)  # as mmengine looks for them
    names = {re.sub(r'^module\.', '', key): value for key, value in loaded.items()} \
        if isinstance(loaded, Mapping) else {}
    own = {key: value for key, value in model.state_dict().items()
           if not key.endswith('num_batches_tracked')}
    wanted = {key: value for key, value in own.items() if key.startswith('backbone.')} or own
    absent = [key for key, value in wanted.items()
              if getattr(names.get(key), 'shape', None) != value.shape]
    if not absent:
        return
    advice = ('it is folded, and the model is not' if is_folded(weights)
              and not is_folded(own) else
              'load_from takes a checkpoint of a whole detector, segmentor or classifier; weights '
              'of only a backbone go to --cfg-options model.backbone.init_cfg.checkpoint=FILE')
    raise CheckpointError(f'load_from={checkpoint}: {len(absent)} of {len(wanted)} weights of the '
                          f'backbone are missing or of another shape, first {absent[0]}; the '
                          f'keys of the file: ({shorten(weights, 3)}); {advice}')
