"""The SSDLite head, on mmdet 3.3 as released."""

from typing import Any, Dict, List, Optional, Sequence

from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


@MODELS.register_module()
class SSDLiteHead(SSDHead):
    """SSD's head with depthwise separable convolutions (MobileNetV2, arXiv 1801.04381).

    It is mmdet's ``SSDHead(use_depthwise=True)``, which in mmdet 3.3.0 trains but cannot predict,
    made to predict; in training it also leaves out boxes without an area, whose regression target
    would be infinite, and computes its losses in float32 whatever the network's precision.

    Args:
        num_classes: Classes without the background. Defaults to 80.
        in_channels: Channels of each feature map.
        use_depthwise: ``False`` gives the plain SSD head. Defaults to True.
        **kwargs: As :class:`mmdet.models.SSDHead`.
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
        # SSD computes its classification loss itself. mmdet 3.3.0 yet asks every head's loss_cls,
        # when it predicts, whether it has an activation of its own.
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
            batch_gt_instances: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels and ``labels`` (N, )
                of each image. N may be 0.
            batch_img_metas: Meta information of each image.
            batch_gt_instances_ignore: Boxes to ignore. Defaults to None.

        Returns:
            'loss_cls' and 'loss_bbox', a list of B scalars each. An image without objects
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
