"""Rewrites that let mmdeploy 1.3.1 export our models with current torch; configs/deploy import it.

mmdeploy replaces functions while it exports ("rewrites"). This module rewrites

- ``torch.onnx.export``: since torch 2.9, the tracing exporter is no longer the default, but
  mmdeploy's rewrites and symbolics only support that one;
- adaptive pooling: mmdeploy replaces it with pooling over equal cells, so PSPNet and UPerNet give
  different results when the grid does not divide the map;
- the prediction of :class:`SSDLiteHead`: for softmax scores, mmdeploy's rewrite of mmdet's heads
  drops the background twice, so it picks the ``nms_pre`` best anchors without looking at the last
  class. It also keeps boxes that mmdet drops as empty.
"""

from contextlib import suppress
from importlib import import_module
from typing import Any, List, Optional, Sequence, Tuple

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.core.rewriters import function_rewriter, rewriter_utils
from torch import Tensor
from torch.nn.modules.utils import _pair

from .graphs.adaptive_pool import MatrixPool
from .graphs.models import at_most, level_predictions
from .graphs.trace import torchscript_exporter

# mmdeploy imports packages with exec() inside a function and looks them up with eval(). Since
# Python 3.13, eval() only finds such names if they are module globals.
for _name in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmdeploy', 'mobileone_mm'):
    with suppress(ImportError):
        for _module in (function_rewriter, rewriter_utils):
            setattr(_module, _name, import_module(_name))


@FUNCTION_REWRITER.register_rewriter('torch.onnx.export')
def _export(*args: Any, **kwargs: Any) -> Any:
    """Use the tracing exporter."""
    context = FUNCTION_REWRITER.get_context()
    return context.origin_func(*args, **{**torchscript_exporter(), **kwargs})


@FUNCTION_REWRITER.register_rewriter('torch.nn.AdaptiveAvgPool2d.forward')
def _adaptive_pool(self: Any, x: Tensor) -> Tensor:
    """Pool with matrices, except to a single cell, for which runtimes have an operator."""
    size = _pair(self.output_size)
    if None in size or size == (1, 1):
        return FUNCTION_REWRITER.get_context().origin_func(self, x)
    return MatrixPool(size)(x)


@FUNCTION_REWRITER.register_rewriter(
    'mobileone_mm.detection.ssdlite_head.SSDLiteHead.predict_by_feat')
def _predict_by_feat(self: Any, cls_scores: List[Tensor], bbox_preds: List[Tensor],
                     score_factors: Optional[List[Tensor]] = None, *,
                     batch_img_metas: Sequence[dict], cfg: Any = None,
                     **kwargs: Any) -> Tuple[Tensor, Tensor]:
    """``dets`` (N, K, 5) and ``labels`` (N, K), from mmdeploy's suppression for the backend."""
    from mmdeploy.codebase.mmdet.deploy import get_post_processing_params
    from mmdeploy.mmcv.ops import multiclass_nms
    cfg = self.test_cfg if cfg is None else cfg
    levels = level_predictions(self, cls_scores, bbox_preds, batch_img_metas[0]['img_shape'])
    scores = torch.cat([_best_pairs(scores, cfg.get('nms_pre', -1)) for scores, _ in levels], 1)
    boxes = torch.cat([boxes for _, boxes in levels], 1)
    least = cfg.get('min_bbox_size', -1)
    if least >= 0:
        sizes = boxes[..., 2:] - boxes[..., :2]
        scores = scores * (sizes > least).all(-1, keepdim=True).to(scores.dtype)
    pre_top_k = get_post_processing_params(FUNCTION_REWRITER.get_context().cfg).pre_top_k
    return multiclass_nms(
        boxes, scores, max_output_boxes_per_class=cfg.max_per_img,
        iou_threshold=cfg.nms.iou_threshold, score_threshold=cfg.score_thr, pre_top_k=pre_top_k,
        keep_top_k=cfg.max_per_img)


def _best_pairs(scores: Tensor, limit: int) -> Tensor:
    """Scores (N, P, C), set to 0 for pairs of anchor and class not among the best ``limit``."""
    if limit < 0:
        return scores
    pairs = scores.reshape(scores.shape[0], -1)
    least = pairs.topk(at_most(limit, pairs), dim=1)[0][:, -1]
    return scores * (scores >= least[:, None, None]).to(scores.dtype)
