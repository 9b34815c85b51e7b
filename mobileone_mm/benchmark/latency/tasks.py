"""Complete detectors and segmentors: ours, and mmdet's and mmseg's with MobileNetV2."""

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.utils import get_installed_path
from torch import nn

from ...utils.configs import config_directory

__all__ = ['CANDIDATES', 'OTHER_DETECTORS', 'OTHER_SEGMENTORS', 'deeplabv3_mobileone',
           'ssdlite_mobileone']

CANDIDATES = 300
"""How many pairs of anchor and class pass a detector's score threshold."""


def _own_config(task: str, name: str) -> Config:
    return Config.fromfile(config_directory(task) / name)


def _stock_config(library: str, *parts: str) -> Config:
    return Config.fromfile(Path(get_installed_path(library), '.mim', 'configs', *parts))


def _build(cfg: Config, scope: str) -> BaseModel:
    """Build the model of a config with random weights, in eval mode."""
    model_cfg = cfg.model
    if scope == 'mmdet':
        from mmdet.registry import MODELS

        from ... import detection  # noqa: F401
    else:
        from mmseg.registry import MODELS

        from ... import segmentation  # noqa: F401
    model_cfg.pop('pretrained', None)
    if model_cfg.backbone.get('init_cfg', {}).get('type') == 'Pretrained':
        model_cfg.backbone.init_cfg = None
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        if model_cfg.get(part, {}).get('norm_cfg', {}).get('type') == 'SyncBN':
            model_cfg[part].norm_cfg = dict(type='BN')
    if model_cfg.get('data_preprocessor', {}).get('type') == 'SegDataPreProcessor':
        model_cfg.data_preprocessor.pop('test_cfg', None)
    init_default_scope(scope)
    model = MODELS.build(model_cfg)
    model.init_weights()
    return model.eval()


def _detector(cfg: Config) -> nn.Module:
    cfg.model.bbox_head.type = 'SSDLiteHead'  # mmdet 3.3.0's SSDHead cannot predict
    model = _build(cfg, 'mmdet')
    _spread_scores(model)
    return model


def ssdlite_mobileone(arch: str) -> nn.Module:
    """SSDLite on MobileOne, of this package's COCO config."""
    return _detector(_own_config('detection', f'ssdlite_mobileone_{arch}_coco.py'))


def _ssdlite_mobilenet_v2() -> nn.Module:
    return _detector(_stock_config('mmdet', 'ssd',
                                   'ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'))


def deeplabv3_mobileone(arch: str) -> nn.Module:
    """DeepLabV3 on MobileOne, of this package's ADE20K config."""
    return _build(_own_config('segmentation', f'deeplabv3_mobileone_{arch}_ade20k.py'), 'mmseg')


def _deeplabv3_mobilenet_v2(**changes: Any) -> nn.Module:
    cfg = _stock_config('mmseg', 'mobilenet_v2',
                        'mobilenet-v2-d8_deeplabv3_4xb4-160k_ade20k-512x512.py')
    cfg.merge_from_dict(changes)
    return _build(cfg, 'mmseg')


Entry = Tuple[str, str, Callable[[], nn.Module]]
OTHER_DETECTORS: Dict[str, Entry] = {
    'mobilenet_v2': ('MobileNetV2, stock', 'MobileNetV2', _ssdlite_mobilenet_v2),
}
OTHER_SEGMENTORS: Dict[str, Entry] = {
    'mobilenet_v2': ('MobileNetV2-D8, stock', 'MobileNetV2', _deeplabv3_mobilenet_v2),
    # The same at our configs' output stride, so that only the backbones differ.
    'mobilenet_v2_os16': ('MobileNetV2 at stride 16', 'MobileNetV2', partial(
        _deeplabv3_mobilenet_v2, **{
            'model.backbone.strides': (1, 2, 2, 2, 1, 1, 1),
            'model.backbone.dilations': (1, 1, 1, 1, 1, 2, 2),
            'model.decode_head.dilations': (1, 6, 12, 18)})),
}


@torch.no_grad()
def _spread_scores(detector: BaseModel) -> None:
    """Scale an SSD detector's class scores so that ``CANDIDATES`` reach the suppression step.

    Untrained scores are all near 1 / (C + 1), below the threshold. Nothing would be suppressed, and
    the detector would seem faster than a trained one. The image is noise.
    """
    head = detector.bbox_head
    last = [list(branch.modules())[-1] for branch in head.cls_convs]
    for layer in last:
        nn.init.zeros_(layer.bias)  # so that the logits scale as the weights do
    image = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    logits = torch.cat([
        scores.permute(0, 2, 3, 1).reshape(-1, head.cls_out_channels)
        for scores in head(detector.extract_feat(image))[0]])
    low, high = 1e-3, 1e9
    for _ in range(60):
        middle = (low * high) ** .5
        scores = (logits * middle).softmax(-1)[:, :-1]
        if (scores > detector.test_cfg.score_thr).sum() < CANDIDATES:
            low = middle
        else:
            high = middle
    for layer in last:
        layer.weight *= high
