"""ImageNet classifiers on backbones of mobileone_mm, mmdet and mmsegmentation."""

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

from torch import Tensor, nn

from ...backbones import MobileOne

if TYPE_CHECKING:
    from mmseg.models.backbones import MobileNetV3

__all__ = ['OTHERS', 'Classifier', 'mobileone']


class Classifier(nn.Module):
    """A backbone's last map, global average pooling and the layers that make the logits.

    Args:
        backbone: Returns one map or a sequence of maps.
        channels: Channels of the last map.
        hidden: Width of a hidden layer before the logits, with h-swish, as in MobileNetV3.
    """

    def __init__(self, backbone: nn.Module, channels: int, hidden: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        hidden_layers = [nn.Linear(channels, hidden), nn.Hardswish()] if hidden else []
        self.head = nn.Sequential(*hidden_layers, nn.Linear(hidden or channels, 1000))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, 1000)."""
        maps = self.backbone(x)
        last = maps if isinstance(maps, Tensor) else maps[-1]
        return self.head(last.mean((2, 3)))


def mobileone(arch: str) -> nn.Module:
    """MobileOne as it is trained; the caller folds it."""
    backbone = MobileOne(arch)
    backbone.init_weights()
    return Classifier(backbone, backbone.out_channels[-1])


def _of(library: str, kind: str, width: int, hidden: int = 0,
        edit: Callable[[nn.Module], None] = lambda backbone: None, **settings: Any) -> nn.Module:
    """A classifier on a backbone of mmdet or mmsegmentation with ``width`` channels at the end."""
    if library == 'mmdet':
        from mmdet.models import backbones

        from ... import detection  # noqa: F401  (provides mmcv._ext)
    else:
        from mmseg.models import backbones

        from ... import segmentation  # noqa: F401
    backbone = getattr(backbones, kind)(**settings)
    backbone.init_weights()
    edit(backbone)
    return Classifier(backbone, width, hidden)


def _strides_of_classification(backbone: 'MobileNetV3') -> None:
    """Undo what mmsegmentation's MobileNetV3 does for segmentation: dilation instead of stride."""
    for name, layer in ((n, getattr(backbone, n)) for n in backbone.layers):
        conv = (layer.depthwise_conv if hasattr(layer, 'depthwise_conv') else layer).conv
        if conv.dilation != (1, 1):
            conv.dilation = (1, 1)
            if type(conv) is nn.Conv2d:
                conv.padding = tuple((size - 1) // 2 for size in conv.kernel_size)
        index = int(name[len('layer'):]) - 1
        if 0 <= index < len(backbone.arch_settings[backbone.arch]):
            stride = backbone.arch_settings[backbone.arch][index][-1]
            conv.stride = (stride, stride)


Entry = Tuple[str, str, Callable[[], nn.Module]]


def _v2(width: float) -> Entry:
    channels = max(1280, int(1280 * width))
    return (f'MobileNetV2 x{width}', 'MobileNetV2',
            partial(_of, 'mmdet', 'MobileNetV2', channels, widen_factor=width, out_indices=(7, )))


def _v3(arch: str, channels: int, hidden: int) -> Entry:
    layers = dict(small=12, large=16)[arch]
    return (f'MobileNetV3-{arch}', 'MobileNetV3',
            partial(_of, 'mmseg', 'MobileNetV3', channels, hidden, _strides_of_classification,
                    arch=arch, out_indices=(layers, )))


def _resnet(depth: int, channels: int) -> Entry:
    return (f'ResNet-{depth}', 'ResNet',
            partial(_of, 'mmdet', 'ResNet', channels, depth=depth, out_indices=(3, )))


def _regnet(arch: str, channels: int) -> Entry:
    return (f'RegNetX-{arch.upper()}', 'others',
            partial(_of, 'mmdet', 'RegNet', channels, arch=f'regnetx_{arch}', out_indices=(3, )))


def _stdc(number: int) -> Entry:
    return (f'STDC{number}', 'others',
            partial(_of, 'mmseg', 'STDCNet', 1024, stdc_type=f'STDCNet{number}', in_channels=3,
                    channels=(32, 64, 256, 512, 1024), bottleneck_type='cat', num_convs=4,
                    norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'), with_final_conv=False))


# name -> label, group, builder
OTHERS: Dict[str, Entry] = {
    **{f'mobilenet_v2_x{width}': _v2(width) for width in (.5, .75, 1., 1.4)},
    'mobilenet_v3_small': _v3('small', 576, 1024),
    'mobilenet_v3_large': _v3('large', 960, 1280),
    'efficientnet_b0': ('EfficientNet-B0', 'others', partial(
        _of, 'mmdet', 'EfficientNet', 1280, arch='b0', out_indices=(6, ))),
    'resnet18': _resnet(18, 512),
    'resnet34': _resnet(34, 512),
    'resnet50': _resnet(50, 2048),
    'regnetx_400mf': _regnet('400mf', 384),
    'regnetx_800mf': _regnet('800mf', 672),
    'cspdarknet_tiny': ('CSPDarknet-tiny', 'others', partial(
        _of, 'mmdet', 'CSPDarknet', 384, deepen_factor=.33, widen_factor=.375,
        out_indices=(4, ))),
    'cspnext_tiny': ('CSPNeXt-tiny', 'others', partial(
        _of, 'mmdet', 'CSPNeXt', 384, deepen_factor=.167, widen_factor=.375, out_indices=(4, ))),
    'stdc1': _stdc(1),
    'stdc2': _stdc(2),
    'pvt_v2_b0': ('PVTv2-B0', 'others', partial(
        _of, 'mmdet', 'PyramidVisionTransformerV2', 256, embed_dims=32,
        num_layers=[2, 2, 2, 2], out_indices=(3, ))),
}
