"""Cross entropy with class weights and ignored pixels."""

from typing import Any, Optional, Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class WeightedCrossEntropyLoss(nn.Module):
    """Cross entropy, averaged over the weights of pixels that are not ignored.

    This is ``torch.nn.CrossEntropyLoss(weight=..., ignore_index=...)``. mmseg 1.2's own loss also
    looks up a weight for ignored labels, and fails at the first padded crop.

    Args:
        class_weight: A weight for each class.
        loss_weight: Factor of the loss. Defaults to 1.
        loss_name: Name in the log; a name that starts with ``loss_`` is part of the total loss.
            Defaults to ``'loss_ce'``.
    """

    class_weight: Tensor

    def __init__(self, class_weight: Sequence[float], loss_weight: float = 1.,
                 loss_name: str = 'loss_ce') -> None:
        super().__init__()
        self.register_buffer('class_weight', torch.tensor(class_weight, dtype=torch.float),
                             persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, cls_score: Tensor, label: Tensor, weight: Optional[Tensor] = None,
                ignore_index: int = 255, **kwargs: Any) -> Tensor:
        """The loss, a scalar; 0 if all pixels are ignored.

        Args:
            cls_score: (N, C, H, W) logits.
            label: (N, H, W) labels.
            weight: (N, H, W) factors for single pixels.
            ignore_index: Label of pixels to ignore.
            **kwargs: Not used; mmseg's heads may pass more.
        """
        losses = F.cross_entropy(cls_score, label, self.class_weight.to(cls_score.dtype),
                                 ignore_index=ignore_index, reduction='none')
        if weight is not None:
            losses = losses * weight
        kept = label[label != ignore_index]
        total = self.class_weight[kept].sum()
        return self.loss_weight * losses.sum() / total.clamp(min=torch.finfo(torch.float).tiny)
