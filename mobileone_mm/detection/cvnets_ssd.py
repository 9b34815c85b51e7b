"""SSDLite as cvnets builds it (``cvnets/models/detection/ssd.py``): MobileViT's detector.

It differs from mmdet's SSDLite: backbone maps are projected to fewer channels, each extra map takes
a single separable convolution, the last map is a global average, and one convolution per map
predicts both boxes and classes.
"""

from typing import List, Sequence, Tuple

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from .ssdlite_head import SSDLiteHead

__all__ = ['CVNetsSSDHead', 'CVNetsSSDNeck']


@MODELS.register_module()
class CVNetsSSDNeck(BaseModule):
    """Projected backbone maps, extra maps of halving size, and the global average of the last.

    Args:
        in_channels: Channels of the backbone maps, in cvnets those of strides 16 and 32.
        out_channels: Channels of all maps. A backbone map with this number is not projected.
            Defaults to cvnets' ``proj_channels``, for strides 16, 32, 64, 128, 256 and the average.
        norm_cfg: Defaults to ``dict(type='BN')``.
        act_cfg: Defaults to ``dict(type='ReLU')``.
        init_cfg: Defaults to Xavier's uniform initialization.

    Raises:
        ValueError: There is no backbone map, or no other map.
    """

    def __init__(
            self,
            in_channels: Sequence[int],
            out_channels: Sequence[int] = (512, 256, 256, 128, 128, 64),
            norm_cfg: ConfigType = dict(type='BN'),
            act_cfg: ConfigType = dict(type='ReLU'),
            init_cfg: OptMultiConfig = dict(
                type='Xavier', layer='Conv2d', distribution='uniform')) -> None:
        super().__init__(init_cfg)
        if not 0 < len(in_channels) < len(out_channels):
            raise ValueError('expected some in_channels and more out_channels, got '
                             f'{in_channels} and {out_channels}')
        self.projections = nn.ModuleList(
            nn.Identity() if before == after else ConvModule(
                before, after, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
            for before, after in zip(in_channels, out_channels))
        channels = [in_channels[-1], *out_channels[len(in_channels):]]
        self.extra_layers = nn.ModuleList(
            DepthwiseSeparableConvModule(before, after, 3, stride=2, padding=1, norm_cfg=norm_cfg,
                                         dw_act_cfg=None, pw_act_cfg=act_cfg)
            for before, after in zip(channels[:-2], channels[1:-1]))
        self.pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvModule(channels[-2], channels[-1], 1, act_cfg=act_cfg))

    def forward(self, inputs: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Backbone maps (B, C_i, H_i, W_i) to one map for each of ``out_channels``."""
        maps = [project(tap) for project, tap in zip(self.projections, inputs)]
        x = inputs[-1]
        for layer in (*self.extra_layers, self.pool):
            x = layer(x)
            maps.append(x)
        return tuple(maps)


@MODELS.register_module()
class CVNetsSSDHead(SSDLiteHead):
    """One separable convolution per map for boxes and classes; a pointwise one on the 1x1 map.

    The depthwise convolution has a batch norm and no activation. Arguments, losses and decoding are
    those of :class:`SSDLiteHead`.
    """

    def _init_layers(self) -> None:
        self.convs = nn.ModuleList()
        for level, (channels, anchors) in enumerate(zip(self.in_channels, self.num_base_priors)):
            out = anchors * (4 + self.cls_out_channels)
            last = level == len(self.in_channels) - 1
            self.convs.append(nn.Conv2d(channels, out, 1) if last else nn.Sequential(
                ConvModule(channels, channels, 3, padding=1, groups=channels,
                           norm_cfg=self.norm_cfg, act_cfg=None),
                nn.Conv2d(channels, out, 1)))

    def forward(self, x: Tuple[Tensor, ...]) -> Tuple[List[Tensor], List[Tensor]]:
        """Compute scores and boxes of A anchors per cell.

        Args:
            x: Maps (B, C_i, H_i, W_i).

        Returns:
            Lists of scores (B, A * (num_classes + 1), H_i, W_i) and boxes (B, A * 4, H_i, W_i).
        """
        scores, boxes = [], []
        for feature, conv, anchors in zip(x, self.convs, self.num_base_priors):
            both = conv(feature).unflatten(1, (anchors, -1))
            boxes.append(both[:, :, :4].flatten(1, 2))
            scores.append(both[:, :, 4:].flatten(1, 2))
        return scores, boxes
