"""Fine-tune with all batch norms frozen."""

from typing import Any, List, Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from ...folding.reparameterize import unwrap_model


@HOOKS.register_module()
class FreezeNormHook(Hook):
    """Keep batch norms in eval mode during training, including those of neck and heads.

    This is for batches too small for their own statistics, down to one image. ``norm_eval`` does
    the same for a backbone only. The norms need initial statistics, so freeze only parts that come
    from a checkpoint.

    Args:
        parts: Names of the model's parts, for example ``('backbone', 'decode_head')``. Defaults to
            the whole model.
        affine: Freeze the gammas and betas too. Defaults to False.

    Raises:
        ValueError: When training starts: the model has no such part, or it holds no batch norm.
    """

    priority = 'VERY_HIGH'

    def __init__(self, parts: Sequence[str] = ('', ), affine: bool = False) -> None:
        self.parts = [parts] if isinstance(parts, str) else list(parts)
        self.affine = affine
        self._norms: List[_BatchNorm] = []

    def before_train(self, runner: Runner) -> None:
        """Find the norms."""
        model, self._norms = unwrap_model(runner.model), []
        for part in self.parts:
            try:
                module = model.get_submodule(part)
            except AttributeError:
                raise ValueError(f'FreezeNormHook: the model has no part {part!r}; it has '
                                 f'{[name for name, _ in model.named_children()]}') from None
            norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
            if not norms:
                raise ValueError(f'FreezeNormHook: {part or "the model"} holds no batch norm')
            self._norms += norms
        if self.affine:
            for norm in self._norms:
                norm.requires_grad_(False)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Undo ``model.train()`` for the frozen norms."""
        for norm in self._norms:
            norm.eval()
