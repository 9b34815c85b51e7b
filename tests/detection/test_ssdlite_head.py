"""The SSDLite head compared with mmdet's own SSD head, and on degenerate input."""

import pytest
import torch

pytest.importorskip('mmdet')

import mobileone_mm.detection  # noqa: E402, F401, I001
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

METAS = [dict(img_shape=(64, 64), pad_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1., 1.))]


def _head(kind='SSDLiteHead'):
    init_default_scope('mmdet')
    train_cfg = dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.,
                      ignore_iof_thr=-1, gt_max_assign_all=False),
        sampler=dict(type='PseudoSampler'), smoothl1_beta=1., allowed_border=-1, pos_weight=-1,
        neg_pos_ratio=3, debug=False)
    cfg = dict(
        type=kind, num_classes=3, in_channels=(4, 4), norm_cfg=dict(type='BN'),
        anchor_generator=dict(type='SSDAnchorGenerator', scale_major=False, strides=[16, 32],
                              ratios=[[2], [2]], min_sizes=[10, 30], max_sizes=[30, 60]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        train_cfg=train_cfg,
        test_cfg=ConfigDict(nms_pre=100, nms=dict(type='nms', iou_threshold=0.45), min_bbox_size=0,
                            score_thr=0.02, max_per_img=10))
    if kind == 'SSDHead':
        cfg['use_depthwise'] = True
    return MODELS.build(cfg)


def _instances(*boxes):
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                        labels=torch.arange(len(boxes)) % 3)


def _features(batch=2):
    return [torch.randn(batch, 4, 4, 4), torch.randn(batch, 4, 2, 2)]


def _losses(head, features, instances):
    return head.loss_by_feat(*head(features), instances, METAS * len(instances))


def _total(losses):
    return sum(sum(part).sum() for part in losses.values())


def test_losses_equal_those_of_mmdets_head():
    ours, stock = _head(), _head('SSDHead')
    stock.load_state_dict(ours.state_dict())
    instances = [_instances([5, 5, 40, 40], [30, 10, 60, 50]), _instances([0, 0, 12, 12])]
    features = _features()
    for name, values in _losses(ours, features, instances).items():
        expected = _losses(stock, features, instances)[name]
        torch.testing.assert_close(list(values), list(expected), rtol=0, atol=0)


@pytest.mark.parametrize('kind, fails', [('SSDLiteHead', False), ('SSDHead', True)])
def test_predicts_where_mmdets_head_cannot(kind, fails):
    head = _head(kind).eval()
    outputs = head(_features(1))
    if fails:
        with pytest.raises(AttributeError, match='loss_cls'):
            head.predict_by_feat(*outputs, batch_img_metas=METAS)
    else:
        result, = head.predict_by_feat(*outputs, batch_img_metas=METAS)
        assert 0 < len(result) <= 10 and set(result.labels.tolist()) <= {0, 1, 2}


def test_images_without_objects_give_zero_loss_and_finite_gradients():
    head = _head()
    total = _total(_losses(head, _features(), [_instances(), _instances()]))
    assert total == 0
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_a_box_without_area_changes_nothing():
    head, features = _head().eval(), _features(1)
    good = _losses(head, features, [_instances([5, 5, 40, 40])])
    with_bad = _losses(head, features, [_instances([5, 5, 40, 40], [7, 7, 7, 30])])
    torch.testing.assert_close(_total(with_bad), _total(good))
    assert not _total(_losses(_stock_twin(head), features, [
        _instances([5, 5, 40, 40], [7, 7, 7, 30])])).isfinite()


def _stock_twin(head):
    stock = _head('SSDHead').eval()
    stock.load_state_dict(head.state_dict())
    return stock


def test_losses_are_float32_under_autocast():
    head = _head()
    with torch.autocast('cpu', torch.bfloat16):
        losses = _losses(head, _features(), [_instances([5, 5, 40, 40]), _instances()])
    assert all(value.dtype == torch.float32 for part in losses.values() for value in part)
    _total(losses).backward()
