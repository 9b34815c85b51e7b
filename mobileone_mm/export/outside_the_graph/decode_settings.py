"""The settings that the caller of a raw network needs, for its .json file."""

from typing import TYPE_CHECKING, Any, Dict

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmdet.models.detectors import SingleStageDetector
    from mmseg.models import EncoderDecoder


def detector_settings(model: 'SingleStageDetector', image: Tensor) -> Dict[str, Any]:
    """A detector's anchors for an image (1, 3, H, W), and the settings of its deltas."""
    head = model.bbox_head
    with torch.no_grad():
        maps = head(model.extract_feat(image))[1]
    generator = head.prior_generator
    levels = [
        dict(size=list(deltas.shape[-2:]), stride=list(stride), anchors=anchors.tolist())
        for deltas, stride, anchors in zip(maps, generator.strides, generator.base_anchors)]
    return dict(
        size=list(image.shape[-2:]), levels=levels,
        means=list(head.bbox_coder.means), stds=list(head.bbox_coder.stds),
        clip=bool(head.bbox_coder.clip_border))


def thresholds(test_cfg: Any) -> Dict[str, Any]:
    """The settings of a detector's suppression, under mmdet's names; ``None`` if not set."""
    cfg: Any = (test_cfg or {}).get('rcnn') or test_cfg or {}  # of the second stage, if any
    return dict(score_thr=cfg.get('score_thr'), nms_pre=cfg.get('nms_pre', -1),
                min_bbox_size=cfg.get('min_bbox_size', -1),
                iou_threshold=(cfg.get('nms') or {}).get('iou_threshold'),
                max_per_img=cfg.get('max_per_img'))


def segmentor_settings(model: 'EncoderDecoder') -> Dict[str, Any]:
    """The settings of a segmentor for :mod:`.label_map`."""
    head = model.decode_head
    return dict(align_corners=bool(head.align_corners),
                threshold=head.threshold if head.out_channels == 1 else None)
