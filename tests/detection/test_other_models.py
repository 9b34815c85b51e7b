"""MobileOne in mmdet's stock detectors: the configs of docs/other_models.md."""

import pytest

pytest.importorskip('mmdet')

import mobileone_mm  # noqa: E402, F401, I001
import torch  # noqa: E402
from doc_configs import doc_configs, load  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.testing import demo_mm_inputs  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from mobileone_mm.deploy import reparameterize  # noqa: E402
from mobileone_mm.verify import verify_on_batch  # noqa: E402

CONFIGS = doc_configs('mmdet')


def test_all_are_documented():
    assert list(CONFIGS) == ['retinanet', 'rtmdet', 'yolox', 'faster_rcnn', 'mask_rcnn']


@pytest.mark.parametrize('name', CONFIGS)
def test_trains_predicts_and_folds(name, tmp_path, randomize):
    cfg = load(CONFIGS[name], tmp_path)
    init_default_scope('mmdet')
    if 'rpn_proposal' in cfg.model.train_cfg:  # two stages: fewer RoIs, for time
        cfg.model.train_cfg.rpn_proposal.max_per_img = cfg.model.test_cfg.rpn.max_per_img = 40
        cfg.model.train_cfg.rcnn.sampler.num = 20
        cfg.model.test_cfg.rcnn.max_per_img = 10
    model = MODELS.build(cfg.model)
    with_mask = name == 'mask_rcnn'
    batch = demo_mm_inputs(2, [[3, 96, 96], [3, 96, 96]], num_items=[2, 1], with_mask=with_mask)
    data = model.data_preprocessor(batch, False)  # without YOLOX's change of the size
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.abs().sum() > 0 for p in model.backbone.stage4[0].parameters())

    randomize(model.backbone)
    model.eval()
    folded = reparameterize(model)
    assert folded.backbone.deploy and not model.backbone.deploy
    # raw outputs, in float64; two-stage ones contain proposals, hence NMS and RoIAlign
    verify_on_batch(model, folded, batch)
    with torch.no_grad():
        before, after = (side.test_step(batch) for side in (model, folded))
    for a, b in zip(before, after):
        assert len(a.pred_instances) == len(b.pred_instances)
        torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores,
                                   rtol=0, atol=1e-4)
        assert ('masks' in b.pred_instances) == with_mask
