"""Batch images of different sizes at validation."""

from typing import Any, Dict, Optional

from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from mmseg.utils import stack_batch


@MODELS.register_module()
class MixedSizeSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor that also takes images of different sizes outside training.

    mmseg 1.2 asserts that they have one size. This pads them at the right and bottom to the largest
    image, and the segmentor crops each prediction. The network sees the padding, so predictions may
    differ slightly from those in a batch of one.

    Args:
        test_cfg: ``dict(size_divisor=n)`` pads to multiples of n pixels, ``dict(size=(h, w))`` to
            a fixed size, ``None``, the default, to the largest image of the batch.
        **kwargs: As in :class:`mmseg.models.SegDataPreProcessor`.
    """

    def __init__(self, *, test_cfg: Optional[dict] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # without test_cfg, the parent only normalizes
        self.padding = test_cfg or dict(size_divisor=1)

    def forward(self, data: dict, training: bool = False) -> Dict[str, Any]:
        """Normalize, pad and stack.

        Args:
            data: 'inputs', a list of B images (C, H_i, W_i), and 'data_samples', a list or None.
            training: Whether to also pad labels and apply batch augmentations.

        Returns:
            'inputs' (B, C, H, W), and 'data_samples', which outside training hold their padding.
        """
        if training:
            return super().forward(data, training)
        data = self.cast_data(data)
        images = [super(MixedSizeSegDataPreProcessor, self).forward(dict(inputs=[image]))
                  for image in data['inputs']]
        inputs, paddings = stack_batch([image['inputs'][0] for image in images],
                                       pad_val=self.pad_val, **self.padding)
        data_samples = data.get('data_samples')
        for data_sample, padding in zip(data_samples or (), paddings):
            data_sample.set_metainfo(padding)
        return dict(inputs=inputs, data_samples=data_samples)
