"""MobileOne in mmdet's stock detectors: the configs in docs/other_models.md."""

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip('mmdet')

import mobileone_mm  # noqa: E402, F401, I001
import torch  # noqa: E402
from doc_configs import doc_configs, load, train_and_fold  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.testing import demo_mm_inputs  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from mobileone_mm.folding.reparameterize import reparameterize  # noqa: E402
from mobileone_mm.folding.verify import FoldingError, verify_on_batch  # noqa: E402

CONFIGS = doc_configs('mmdet')


def test_all_are_documented():
    assert list(CONFIGS) == ['retinanet', 'rtmdet', 'yolox', 'faster_rcnn', 'mask_rcnn']


def build(name, tmp_path):
    cfg = load(CONFIGS[name], tmp_path)
    init_default_scope('mmdet')
    if 'rpn_proposal' in cfg.model.train_cfg:  # two stages: fewer RoIs, to save time
        proposals = 12 if name == 'mask_rcnn' else 40
        cfg.model.train_cfg.rpn_proposal.max_per_img = proposals
        cfg.model.test_cfg.rpn.max_per_img = proposals
        cfg.model.train_cfg.rcnn.sampler.num = 20
        cfg.model.test_cfg.rcnn.max_per_img = 10
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', CONFIGS)
def test_trains_predicts_and_folds(name, tmp_path, randomize):
    model = build(name, tmp_path)
    with_mask = name == 'mask_rcnn'
    batch = demo_mm_inputs(2, [[3, 96, 96], [3, 96, 96]], num_items=[2, 1], with_mask=with_mask)
    # Not as in training, where YOLOX changes the size. Raw outputs of two stages contain
    # proposals, and so NMS and RoIAlign.
    for a, b in train_and_fold(model, batch, False, randomize):
        assert len(a.pred_instances) == len(b.pred_instances)
        torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores,
                                   rtol=0, atol=1e-4)
        assert ('masks' in b.pred_instances) == with_mask


@pytest.fixture
def two_stages(tmp_path, randomize):
    """A Faster R-CNN, folded, and a batch."""
    model = randomize(build('faster_rcnn', tmp_path)).eval()
    batch = demo_mm_inputs(1, [[3, 96, 96]])
    return model, reparameterize(model, fuse_conv_bn=True), batch


@pytest.fixture(params=['float64', 'float32'])
def nms_precision(request, monkeypatch):
    """mmcv's NMS like the compiled one, only for float32, or one that also takes float64."""
    module = sys.modules['mmcv.ops.nms']  # mmcv.ops.nms is the function
    op = module.ext_module.nms

    def compiled(boxes, scores, **options):
        if boxes.dtype == torch.float64 and request.param == 'float32':
            raise RuntimeError('expected scalar type Float but found Double')
        return op(boxes.float(), scores.float(), **options)

    monkeypatch.setattr(module, 'ext_module', SimpleNamespace(nms=compiled))
    return request.param


def test_two_stages_are_verified_to_the_end(two_stages, nms_precision):
    model, folded, batch = two_stages
    limit = 1e-6 if nms_precision == 'float64' else 1e-4
    assert 0 < verify_on_batch(model, folded, batch) < limit
    for layer in (folded.rpn_head.rpn_reg, folded.roi_head.bbox_head.fc_cls):
        sound = layer.bias.data.clone()
        layer.bias.data += .1
        with pytest.raises(FoldingError, match='though each of the'):
            verify_on_batch(model, folded, batch)
        layer.bias.data = sound


def test_the_order_of_proposals_is_no_difference(two_stages):
    """Rounding swaps proposals with nearly equal scores."""
    model, folded, batch = two_stages
    for side, factor in ((model, 1 + 1e-5), (folded, 1 - 1e-5)):
        weight, bias = side.rpn_head.rpn_cls.parameters()
        weight.data[1], bias.data[1] = factor * weight.data[0], bias.data[0]
    data = model.data_preprocessor(batch, False)
    with torch.no_grad():
        one, two = (side.rpn_head.predict(side.extract_feat(data['inputs']), data['data_samples'],
                                          rescale=False)[0].bboxes for side in (model, folded))
    assert one.shape != two.shape or (one - two).abs().max() > 1
    verify_on_batch(model, folded, batch)
