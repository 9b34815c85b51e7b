"""Graphs with a fixed input size, for phones: anchors are constants, every step has an operator.

For shapes, see :mod:`.models`.
"""

from typing import TYPE_CHECKING, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from .models import RawDetectorGraph, SegmentorGraph, decode_deltas

if TYPE_CHECKING:
    from mmdet.models.detectors import SingleStageDetector


class FixedSizeDetector(RawDetectorGraph):
    """An SSD detector up to the decoded boxes of all anchors.

    Args:
        detector: See :class:`RawDetectorGraph`.
        image: (1, 3, H, W); only its size counts.
    """

    anchors: Tensor

    def __init__(self, detector: 'SingleStageDetector', image: Tensor) -> None:
        super().__init__(detector, decode=False)
        self.output_names = ('scores', 'boxes')
        self.register_buffer('anchors', self.priors(image))

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """Scores (N, P, C) and boxes (N, P, 4), like :class:`RawDetectorGraph`."""
        scores, deltas = super().forward(image)
        return scores, decode_deltas(self.anchors, deltas, self.model.bbox_head.bbox_coder,
                                     image.shape[-2:])


class BestClassDetector(nn.Module):
    """The three outputs that react-native-executorch's ``useObjectDetection`` expects.

    Args:
        detector: The graph to wrap.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, detector: FixedSizeDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Predict the best class of every anchor.

        Args:
            image: (1, 3, H, W), RGB, 0 to 1.

        Returns:
            Boxes (P, 4) in pixels of ``image``, scores (P, ) and labels (P, ), float32.
        """
        scores, boxes = self.detector(255 * image.flip(1))
        best, labels = scores[0].max(-1)
        return boxes[0], best, labels.float()


class FixedSizeSegmentor(nn.Module):
    """A segmentor that returns int32 labels and their logits.

    Args:
        logits: The graph that computes the logits.
    """

    output_names = ('labels', 'logits')

    def __init__(self, logits: SegmentorGraph) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """Labels (N, H, W), int32, and logits (N, C, h, w) at the stride of the head.

        Args:
            image: (N, 3, H, W), BGR, 0 to 255.
        """
        logits, head = self.logits(image), self.logits.model.decode_head
        maps = F.interpolate(logits, size=image.shape[-2:], mode='bilinear',
                             align_corners=head.align_corners)
        if head.out_channels > 1:
            return maps.argmax(1).int(), logits
        return (maps.sigmoid() > head.threshold).squeeze(1).int(), logits
