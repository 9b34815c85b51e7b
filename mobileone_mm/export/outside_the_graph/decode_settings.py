"""What is left to the caller of a raw network, as numbers for the .json beside it."""

from typing import TYPE_CHECKING, Any, Dict

import torch
from mmengine.model import ImgDataPreprocessor
from torch import Tensor

from ..graphs.models import Normalize

if TYPE_CHECKING:
    from mmdet.models.detectors import SingleStageDetector
    from mmseg.models import EncoderDecoder


def preprocessing(preprocessor: ImgDataPreprocessor) -> Dict[str, Any]:
    """What an app does with an image: channel order, mean and standard deviation per channel."""
    normalize = Normalize(preprocessor)
    return dict(
        channels='RGB' if normalize.swap else 'BGR',
        mean=normalize.mean.flatten().tolist() if normalize.enabled else [0.] * 3,
        std=normalize.std.flatten().tolist() if normalize.enabled else [1.] * 3)


def detector_settings(model: 'SingleStageDetector', image: Tensor) -> Dict[str, Any]:
    """What :mod:`.ssd_decode` wants to know of a detector, for an image (1, 3, H, W)."""
    test_cfg, head = model.test_cfg, model.bbox_head
    with torch.no_grad():
        maps = head(model.extract_feat(image))[1]
    generator = head.prior_generator
    levels = [
        dict(size=list(deltas.shape[-2:]), stride=list(stride), anchors=anchors.tolist())
        for deltas, stride, anchors in zip(maps, generator.strides, generator.base_anchors)]
    return dict(
        size=list(image.shape[-2:]), levels=levels,
        means=list(head.bbox_coder.means), stds=list(head.bbox_coder.stds),
        clip=bool(head.bbox_coder.clip_border), score_threshold=test_cfg.score_thr,
        pairs_per_level=test_cfg.get('nms_pre', -1), min_size=test_cfg.get('min_bbox_size', -1),
        iou_threshold=test_cfg.nms.iou_threshold, max_boxes=test_cfg.max_per_img)


def segmentor_settings(model: 'EncoderDecoder') -> Dict[str, Any]:
    """What :mod:`.label_map` wants to know of a segmentor."""
    head = model.decode_head
    labels: Dict[str, Any] = dict(align_corners=bool(head.align_corners))
    if head.out_channels == 1:
        labels['threshold'] = head.threshold
    return dict(labels=labels)
