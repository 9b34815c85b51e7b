"""A classifier that learns from teachers' outputs."""

import copy
from typing import Any, Callable, Dict, List, Sequence

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..folding.models import load_weights

__all__ = ['DistilledClassifier', 'distillation_loss']


def distillation_loss(logits: Tensor, targets: Tensor, temperature: float = 1.) -> Tensor:
    """``T^2 KL(targets || softmax(logits / T))``, averaged over the images.

    Args:
        logits: The student's, (B, classes).
        targets: The teachers' probabilities at the same temperature, (B, classes).
        temperature: T; the factor T^2 keeps the gradient's scale (arXiv 1503.02531, section 2).
    """
    return nn.functional.kl_div(
        (logits / temperature).log_softmax(1), targets, reduction='batchmean') * temperature**2


@ROOT_MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier, trained on the averaged outputs of teachers.

    The default is the main loss of MEAL V2 (arXiv 2009.08453), which trained the paper's distilled
    models: only the teachers' outputs, no labels. MEAL V2's discriminator is left out. Teachers get
    the images from the student's data preprocessor. They are not part of the state dict, so
    checkpoints are those of a plain classifier, and they are only loaded for training.

    Args:
        *args: As in ImageClassifier.
        teachers: Configs of classifiers with the same classes, each with a ``checkpoint``, a path
            or URL.
        temperature: Temperature of both softmaxes. Defaults to 1.
        label_weight: Weight of the head's own loss on the labels. Defaults to 0.
        **kwargs: As in ImageClassifier.

    Raises:
        ValueError: There is no teacher, one has no checkpoint, or a number is out of range.
    """

    def __init__(self,
                 *args: Any,
                 teachers: Sequence[Dict[str, Any]],
                 temperature: float = 1.,
                 label_weight: float = 0.,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not teachers or not all(teacher.get('checkpoint') for teacher in teachers):
            raise ValueError('teachers must hold at least one config, each with a checkpoint: '
                             'untrained teachers teach nothing')
        if temperature <= 0 or label_weight < 0:
            raise ValueError('temperature must be positive and label_weight not negative, got '
                             f'{temperature} and {label_weight}')
        self.temperature, self.label_weight = temperature, label_weight
        self._teachers = _Teachers(teachers)

    def init_weights(self) -> None:
        """Initialize the student and load the teachers."""
        super().init_weights()
        self._teachers.load(next(self.parameters()).device)

    def loss(self, inputs: Tensor, data_samples: List) -> Dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs: Preprocessed images, (B, 3, H, W).
            data_samples: Their labels.
        """
        logits = self.head(self.extract_feat(inputs))
        targets = self._teachers(inputs, self.temperature)
        losses = dict(loss_distill=distillation_loss(logits, targets, self.temperature))
        if self.label_weight:
            own = self.head._get_loss(logits, data_samples)
            losses['loss_label'] = self.label_weight * own.pop('loss')
            losses.update(own)
        return losses

    def _apply(self, fn: Callable, *args: Any) -> 'DistilledClassifier':
        for teacher in self._teachers.models:
            teacher._apply(fn)
        return super()._apply(fn, *args)


class _Teachers:
    """Teachers outside the module tree: not saved or averaged, and shared by model copies."""

    def __init__(self, configs: Sequence[Dict[str, Any]]) -> None:
        self.configs = [copy.deepcopy(dict(config)) for config in configs]
        self.models: List[nn.Module] = []

    def __deepcopy__(self, memo: dict) -> '_Teachers':
        return self

    def load(self, device: torch.device) -> None:
        """Build the teachers and read their checkpoints, once."""
        if self.models:
            return
        models = []
        for config in self.configs:
            config = dict(config)
            checkpoint = config.pop('checkpoint')
            teacher = MODELS.build(config)
            load_weights(teacher, checkpoint)
            models.append(teacher.requires_grad_(False).eval().to(device))
        self.models = models

    @torch.no_grad()
    def __call__(self, inputs: Tensor, temperature: float) -> Tensor:
        """Averaged probabilities (B, classes) for images (B, 3, H, W)."""
        self.load(inputs.device)
        return sum((teacher(inputs, mode='tensor') / temperature).softmax(1)
                   for teacher in self.models) / len(self.models)
