"""The DeepLabV3 head of the paper's code."""

from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models import ASPPHead
from mmseg.registry import MODELS

__all__ = ['DeepLabV3Head']


@MODELS.register_module()
class DeepLabV3Head(ASPPHead):
    """mmseg's ASPP head with the 1x1 projection of cvnets, which the paper used for training.

    mmseg merges the five ASPP branches with a 3x3 convolution. cvnets (``modules/aspp_block.py``)
    and the DeepLabV3 paper (arXiv 1706.05587, section 3.3) use a 1x1 convolution. With 512
    channels it has 1.3 M weights instead of 11.8 M. Parameters have the names of ``ASPPHead``;
    only the shape of ``bottleneck.conv.weight`` differs. The inherited rest equals cvnets': batch
    norm in the image pooling, channel dropout between projection and classifier.

    Args:
        **kwargs: As in :class:`mmseg.models.ASPPHead`.

    Examples:
        >>> from mobileone_mm.segmentation import DeepLabV3Head
        >>> head = DeepLabV3Head(in_channels=8, channels=4, num_classes=3)
        >>> head.bottleneck.conv.weight.shape
        torch.Size([4, 20, 1, 1])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bottleneck = ConvModule(
            (len(self.dilations) + 1) * self.channels,
            self.channels,
            1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg)
