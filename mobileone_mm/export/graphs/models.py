"""Self-contained graphs of folded models: an image tensor in, boxes or a label map out.

Shapes: N images, H x W pixels, P anchors over all levels, C classes, K boxes kept per image.

Every graph takes images as mmcv reads them, as float32: (N, 3, H, W), BGR, 0 to 255, resized
by the caller. The graph swaps channels and normalizes like the model's data preprocessor, unless
``normalize=False``.
"""

from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, ImgDataPreprocessor
from torch import Tensor, nn

from ..errors import ExportError, UnknownHeadError
from .aspp import computes_as_aspp, pooling_apart
from .nms import batched_nms
from .upsampled_argmax import upsampled_argmax

if TYPE_CHECKING:
    from mmdet.models import SSDHead
    from mmdet.models.detectors import SingleStageDetector
    from mmseg.models import EncoderDecoder


class Normalize(nn.Module):
    """The channel order, mean and standard deviation of a model's data preprocessor.

    Args:
        preprocessor: mmdet's or mmseg's data preprocessor.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: ImgDataPreprocessor) -> None:
        super().__init__()
        self.swap = bool(getattr(preprocessor, '_channel_conversion', False)
                         or getattr(preprocessor, 'channel_conversion', False))
        self.enabled = preprocessor._enable_normalize
        if self.enabled:
            self.register_buffer('mean', preprocessor.mean.detach().clone().view(1, -1, 1, 1))
            self.register_buffer('std', preprocessor.std.detach().clone().view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Turn (N, 3, H, W), BGR, 0 to 255, into the input that the network was trained on."""
        if self.swap:
            image = image.flip(1)
        return (image - self.mean) / self.std if self.enabled else image


class ExportGraph(nn.Module):
    """Normalization and a network whose convolutions may run in float16.

    Args:
        model: A folded detector or segmentor; with ``half`` it is cast in place.
        normalize: Whether the graph normalizes; otherwise it takes normalized images.
        half: Run the network in float16. Inputs, outputs, normalization and the steps after the
            network stay float32.
    """

    model: BaseModel

    def __init__(self, model: BaseModel, normalize: bool = True, half: bool = False) -> None:
        super().__init__()
        self.normalize = Normalize(model.data_preprocessor) if normalize else nn.Identity()
        self.model = (model.half() if half else model).eval()
        self.half_precision = half

    def prepare(self, image: Tensor) -> Tensor:
        """The network's input."""
        image = self.normalize(image)
        return image.half() if self.half_precision else image


class RawDetectorGraph(ExportGraph):
    """An SSD detector without non-maximum suppression, which every runtime can compute.

    Args:
        detector: A folded single-stage detector with an SSD head.
        decode: Return boxes; otherwise deltas of the anchors :meth:`priors`.
        normalize: See :class:`ExportGraph`.
        half: See :class:`ExportGraph`.

    Raises:
        ExportError: The head is not an SSD head.
    """

    output_names: Tuple[str, ...] = ('scores', 'boxes')

    def __init__(self, detector: 'SingleStageDetector', decode: bool = True, normalize: bool = True,
                 half: bool = False) -> None:
        check_head(detector)
        super().__init__(detector, normalize, half)
        self.decode = decode
        if not decode:
            self.output_names = ('scores', 'deltas')

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """Scores and boxes of every anchor.

        Args:
            image: (N, 3, H, W), see the module's docstring.

        Returns:
            Scores (N, P, C), softmax without the background, and boxes (N, P, 4) as x1, y1, x2,
            y2 in pixels of ``image``, clipped to it; or deltas (N, P, 4).
        """
        levels = self.levels(image)
        return (torch.cat([scores for scores, _ in levels], 1),
                torch.cat([boxes for _, boxes in levels], 1))

    def levels(self, image: Tensor) -> List[Tuple[Tensor, Tensor]]:
        """See :meth:`forward`; returns a pair for each feature map."""
        head = self.model.bbox_head
        class_maps, delta_maps = head(self.model.extract_feat(self.prepare(image)))
        size = image.shape[-2:] if self.decode else None
        return level_predictions(head, class_maps, delta_maps, size)

    def priors(self, image: Tensor) -> Tensor:
        """The anchors (P, 4) for an image's size, as x1, y1, x2, y2 in pixels."""
        head = self.model.bbox_head
        with torch.no_grad():
            maps = head(self.model.extract_feat(self.prepare(image)))[1]
        return torch.cat(head.prior_generator.grid_priors(
            [deltas.shape[-2:] for deltas in maps], device=image.device))


class DetectorGraph(RawDetectorGraph):
    """An end-to-end SSD detector with the decoding, thresholds and suppression of its ``test_cfg``.

    It follows mmdet's order: the ``nms_pre`` best pairs of anchor and class per level, suppression
    per class over all levels, then the ``max_per_img`` best boxes.

    Args:
        detector: See :class:`RawDetectorGraph`.
        normalize: See :class:`ExportGraph`.
        half: See :class:`ExportGraph`.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, detector: 'SingleStageDetector', normalize: bool = True,
                 half: bool = False) -> None:
        super().__init__(detector, True, normalize, half)
        self.test_cfg = detector.test_cfg
        kind = self.test_cfg.nms.get('type', 'nms')
        if kind != 'nms':
            raise ExportError(f'test_cfg.nms.type {kind!r} has no counterpart in ONNX: use nms')

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """The boxes of N images, best first, padded to K = ``test_cfg.max_per_img``.

        Args:
            image: (N, 3, H, W), see the module's docstring.

        Returns:
            Boxes (N, K, 4) as x1, y1, x2, y2 in pixels of ``image``, scores (N, K) and labels
            (N, K), int64. Padding has score 0, label -1 and an empty box.
        """
        cfg = self.test_cfg
        best = [_best_pairs(scores, boxes, cfg.get('nms_pre', -1))
                for scores, boxes in self.levels(image)]
        scores, labels, boxes = (torch.cat(parts, 1) for parts in zip(*best))
        width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
        least = cfg.get('min_bbox_size', -1)
        if least >= 0:
            scores = scores * ((width > least) & (height > least)).to(scores.dtype)
        keep = batched_nms(boxes, scores, labels, cfg.nms.iou_threshold, cfg.score_thr,
                           cfg.max_per_img)
        scores, order = (scores * keep).topk(at_most(cfg.max_per_img, scores), dim=1)
        found = scores > 0
        boxes = _take(boxes, order) * found.unsqueeze(-1).to(boxes.dtype)
        labels = torch.where(found, labels.gather(1, order), torch.full_like(order, -1))
        return boxes, scores, labels


class SegmentorGraph(ExportGraph):
    """An encoder-decoder on whole images, up to the label map.

    Args:
        segmentor: A folded ``EncoderDecoder``.
        argmax: Return labels at the image's size; otherwise logits at the head's size.
        normalize: See :class:`ExportGraph`.
        half: See :class:`ExportGraph`.
        pick: The runtime's fastest operator for the best class, one of
            :data:`.upsampled_argmax.PICKS`.

    Raises:
        ExportError: The segmentor does not predict whole images with a single decode head.
    """

    def __init__(self, segmentor: 'EncoderDecoder', argmax: bool = True, normalize: bool = True,
                 half: bool = False, pick: str = 'argmax') -> None:
        check_whole(segmentor)
        if isinstance(segmentor.decode_head, nn.ModuleList):
            raise ExportError('cascades of decode heads are not supported: the graph has a '
                              'backbone, a neck and one decode head')
        super().__init__(segmentor, normalize, half)
        self.argmax, self.pick = argmax, pick
        self.output_names = ('labels', ) if argmax else ('logits', )
        # ncnn's and Core ML's converters lack the operators for it; their graphs return logits.
        self.pooling_apart = argmax and computes_as_aspp(segmentor.decode_head)

    def forward(self, image: Tensor) -> Tensor:
        """Labels or logits.

        Args:
            image: (N, 3, H, W), see the module's docstring.

        Returns:
            Labels (N, H, W), int64; or logits (N, C, h, w) at the stride of the head.
        """
        head = self.model.decode_head
        maps = self.model.extract_feat(self.prepare(image))
        logits = (pooling_apart(head, maps) if self.pooling_apart else head(maps)).float()
        if not self.argmax:
            return logits
        size = image.shape[-2:]
        if head.out_channels > 1:
            return upsampled_argmax(logits, size, head.align_corners, self.pick)
        logits = F.interpolate(logits, size=size, mode='bilinear',
                               align_corners=head.align_corners)
        return (logits.sigmoid() > head.threshold).squeeze(1).long()


def check_whole(segmentor: 'EncoderDecoder') -> None:
    """Refuse segmentors that use sliding windows.

    Raises:
        ExportError: ``test_cfg.mode`` is not 'whole'.
    """
    mode = segmentor.test_cfg.get('mode', 'whole')
    if mode != 'whole':
        raise ExportError(f'test_cfg.mode is {mode!r}, but a graph predicts whole images: deploy '
                          'with --cfg-options model.test_cfg.mode=whole and cut windows outside')


def check_head(detector: 'SingleStageDetector') -> None:
    """Refuse detectors whose decoding these graphs do not support.

    Raises:
        UnknownHeadError: The head is not an SSD head with softmax scores and a delta coder.
    """
    head = getattr(detector, 'bbox_head', None)
    coder = type(getattr(head, 'bbox_coder', None)).__name__
    known = (coder == 'DeltaXYWHBBoxCoder' and hasattr(head, 'prior_generator')
             and not getattr(head, 'use_sigmoid_cls', True))
    if not known:
        raise UnknownHeadError(
            f'the head {type(head).__name__} is not an SSD head (anchors, DeltaXYWHBBoxCoder, '
            'softmax), the only kind that this backend can export')


def level_predictions(head: 'SSDHead', class_maps: Sequence[Tensor], delta_maps: Sequence[Tensor],
                      size: Optional[Sequence[int]]) -> List[Tuple[Tensor, Tensor]]:
    """Turn the maps of an SSD head into predictions for each anchor, level by level.

    Args:
        head: The head.
        class_maps: L maps (N, A * (C + 1), h, w), for A anchors per cell.
        delta_maps: L maps (N, A * 4, h, w).
        size: Height and width to clip boxes to; with ``None``, deltas are not decoded.

    Returns:
        For each level, scores (N, P, C), softmax without the background, and boxes or deltas
        (N, P, 4), in float32.
    """
    anchors = head.prior_generator.grid_priors(
        [deltas.shape[-2:] for deltas in delta_maps], device=delta_maps[0].device)
    levels = []
    for class_map, delta_map, own in zip(class_maps, delta_maps, anchors):
        scores = _per_anchor(class_map, head.cls_out_channels).softmax(-1)[..., :-1]
        boxes = _per_anchor(delta_map, 4)
        levels.append((scores, boxes if size is None else
                       decode_deltas(own, boxes, head.bbox_coder, size)))
    return levels


def decode_deltas(anchors: Tensor, deltas: Tensor, coder: Any, size: Sequence[int]) -> Tensor:
    """Compute mmdet's ``DeltaXYWHBBoxCoder.decode`` without writing into slices.

    Args:
        anchors: (P, 4) as x1, y1, x2, y2.
        deltas: (N, P, 4) as dx, dy, dw, dh.
        coder: The ``DeltaXYWHBBoxCoder`` with the means and standard deviations.
        size: Height and width to clip to.

    Returns:
        Boxes (N, P, 4) as x1, y1, x2, y2.
    """
    if coder.add_ctr_clamp:
        raise ExportError('bbox_coder.add_ctr_clamp is not supported')
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    centers, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    limit = abs(float(torch.tensor(16 / 1000).log()))  # mmdet's wh_ratio_clip
    half = sizes * deltas[..., 2:].clamp(-limit, limit).exp() / 2
    centers = centers + sizes * deltas[..., :2]
    boxes = torch.cat([centers - half, centers + half], -1)
    if not coder.clip_border:
        return boxes
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)


def _per_anchor(maps: Tensor, channels: int) -> Tensor:
    """Reshape (N, A * channels, H, W) to (N, H * W * A, channels), in float32."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, channels).float()


def _best_pairs(scores: Tensor, boxes: Tensor, limit: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Scores (N, M), labels (N, M) and boxes (N, M, 4) of the best pairs of anchor and class."""
    pairs = scores.reshape(scores.shape[0], -1)
    if limit < 0:
        limit = 2 ** 31 - 1
    scores_, index = pairs.topk(at_most(limit, pairs), dim=1)
    anchor = torch.div(index, scores.shape[-1], rounding_mode='floor')
    return scores_, index - anchor * scores.shape[-1], _take(boxes, anchor)


def at_most(limit: int, values: Tensor) -> int:
    """The smaller of ``limit`` and the length of dimension 1, which stays open when traced."""
    length: Any = values.shape[1]
    if torch.jit.is_tracing():  # sizes are tensors then
        length = torch.minimum(torch.as_tensor(length), torch.tensor(limit))
        return length
    return min(limit, length)


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    return boxes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
