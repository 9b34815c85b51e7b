"""The SSDLite head for mmdet 3.3 as released."""

from typing import Any, Dict, List, Optional, Sequence

from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """SSD's head with depthwise separable convolutions (MobileNetV2, arXiv 1801.04381).

    mmdet 3.3.0's own ``SSDHead(use_depthwise=True)`` trains but cannot predict; this one can. In
    training it ignores boxes without an area, whose regression target would be infinite, and it
    computes losses in float32 whatever the network's precision.

    Args:
        num_classes: Classes without the background. Defaults to 80.
        in_channels: Channels of each feature map.
        use_depthwise: ``False`` gives the plain SSD head. Defaults to True.
        **kwargs: As in :class:`mmdet.models.SSDHead`.
    """

    def __init__(self,
                 num_classes: int = 80,
                 in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
                 *,
                 use_depthwise: bool = True,
                 **kwargs: Any) -> None:
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            use_depthwise=use_depthwise,
            **kwargs)
        # SSD computes its classification loss itself. But to predict, mmdet 3.3.0 asks every head's
        # loss_cls whether it has its own activation.
        self.loss_cls = None

    def loss_by_feat(self,
                     cls_scores: List[Tensor],
                     bbox_preds: List[Tensor],
                     batch_gt_instances: List[InstanceData],
                     batch_img_metas: List[dict],
                     batch_gt_instances_ignore: Optional[List[InstanceData]] = None
                     ) -> Dict[str, List[Tensor]]:
        """Compute the losses of a batch of B images over L levels.

        Args:
            cls_scores: L maps (B, A * (num_classes + 1), H, W), for A anchors per cell.
            bbox_preds: L maps (B, A * 4, H, W).
            batch_gt_instances: For each image, ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels, and
                ``labels`` (N, ). N may be 0.
            batch_img_metas: Meta information of each image.
            batch_gt_instances_ignore: Boxes to ignore. Defaults to None.

        Returns:
            'loss_cls' and 'loss_bbox', each a list of B scalars. An image without objects
            contributes 0 to both: SSD mines negatives in proportion to the positives.
        """
        return super().loss_by_feat(
            [score.float() for score in cls_scores],
            [pred.float() for pred in bbox_preds],
            [_with_area(instances) for instances in batch_gt_instances],
            batch_img_metas, batch_gt_instances_ignore)


def _with_area(instances: InstanceData) -> InstanceData:
    boxes = get_box_tensor(instances.bboxes)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return instances if has_area.all() else instances[has_area]
