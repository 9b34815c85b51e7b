"""Every COCO config builds, and follows the paper."""

import copy
import itertools

import pytest
import torch
from paths import ROOT

pytest.importorskip('mmdet')

import mobileone_mm.detection  # noqa: E402, F401, I001
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.model import initialize  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

CONFIGS = ROOT / 'configs' / 'detection'


@pytest.mark.parametrize('arch', ['s0', 's1', 's2', 's3', 's4'])
def test_config(arch):
    cfg = Config.fromfile(CONFIGS / f'ssdlite_mobileone_{arch}_coco.py')
    assert cfg.train_cfg.max_epochs == 200  # paper, section 4.3
    resize, = [t for t in cfg.train_pipeline if t['type'] == 'Resize']
    assert tuple(resize['scale']) == (320, 320)
    assert cfg.model.backbone.init_cfg.checkpoint.endswith(f'mobileone_{arch}_unfused.pth.tar')
    assert cfg.model.backbone.get('norm_cfg') is None  # eps 1e-5, as the released weights
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    assert model.backbone.arch == mobileone_mm.backbones.archs.ARCHS[arch]
    assert model.backbone.out_strides == (16, 32)
    assert tuple(cfg.model.neck.in_channels) == model.backbone.out_channels
    assert cfg.model.neck.out_channels == cfg.model.bbox_head.in_channels
    assert model.bbox_head.use_depthwise


@pytest.mark.parametrize('arch', ['s0', 's1', 's2', 's3', 's4'])
def test_cvnets_recipe(arch):
    cfg = Config.fromfile(CONFIGS / f'ssdlite_mobileone_{arch}_cvnets_coco.py')
    assert cfg.train_cfg.max_epochs == 200
    assert cfg.train_dataloader.batch_size * 4 == cfg.auto_scale_lr.base_batch_size == 128
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=9e-4, betas=(0.9, 0.999), weight_decay=0.01)
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert [step['type'] for step in cfg.train_dataloader.dataset.pipeline[2:-1]] == [
        'SSDCrop', 'PhotoMetricDistortion', 'RandomFlip', 'Resize']
    assert cfg.model.backbone.init_cfg.checkpoint.endswith(f'mobileone_{arch}_unfused.pth.tar')
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        maps = model.extract_feat(torch.empty(1, 3, 320, 320))
        scores, boxes = model.bbox_head(maps)
    assert [m.shape[1:] for m in maps] == [
        (c, n, n) for c, n in zip((512, 256, 256, 128, 128, 64), (20, 10, 5, 3, 2, 1))]
    assert [s.shape[1] for s in scores] == [6 * 81] * 5 + [4 * 81]
    assert [b.shape[1] for b in boxes] == [6 * 4] * 5 + [4 * 4]


@pytest.mark.parametrize('name', sorted(path.stem for path in CONFIGS.glob('*.py')))
def test_initial_weights_can_be_drawn(name):
    """A value that a base's ``init_cfg`` leaves over would stop the training at its start."""
    model = Config.fromfile(CONFIGS / f'{name}.py').model
    for part in (model.neck, model.bbox_head):
        initialize(torch.nn.Conv2d(1, 1, 1), copy.deepcopy(part.get('init_cfg', [])))


def cvnets_anchors():
    """Center x, center y, width, height of all anchors by SSD's formulas, for 320 pixels."""
    scales = [0.1 + i * (1.05 - 0.1) / 6 for i in range(7)]
    for level, size in enumerate((20, 10, 5, 3, 2, 1)):
        small, large = scales[level], (scales[level] * scales[level + 1]) ** .5
        shapes = [(small, small), (large, large)]
        for ratio in ([2, 3] if level < 5 else [2]):
            shapes += [(small * ratio ** .5, small / ratio ** .5),
                       (small / ratio ** .5, small * ratio ** .5)]
        for y, x, (w, h) in itertools.product(range(size), range(size), shapes):
            yield [320 * v for v in ((x + .5) / size, (y + .5) / size, w, h)]


def test_cvnets_anchors():
    cfg = Config.fromfile(CONFIGS / 'ssdlite_mobileone_s1_cvnets_coco.py')
    from mmdet.registry import TASK_UTILS
    generator = TASK_UTILS.build(cfg.model.bbox_head.anchor_generator)
    found = torch.cat(generator.grid_priors([(n, n) for n in (20, 10, 5, 3, 2, 1)], device='cpu'))
    found = torch.cat([(found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]], 1)
    expected = torch.tensor(list(cvnets_anchors()))
    assert len(found) == len(expected) == 6 * (400 + 100 + 25 + 9 + 4) + 4

    def ordered(anchors):
        return sorted([round(v, 2) for v in row] for row in anchors.tolist())
    assert ordered(found) == ordered(expected)


def test_cvnets_head_reads_boxes_and_classes_of_each_anchor():
    """4 box values, then the classes, anchor by anchor: losses reach all and mix none."""
    cfg = Config.fromfile(CONFIGS / 'ssdlite_mobileone_s0_cvnets_coco.py')
    init_default_scope('mmdet')
    head = MODELS.build(dict(cfg.model.bbox_head, in_channels=(4, ) * 6, num_classes=3,
                             train_cfg=cfg.model.train_cfg, test_cfg=cfg.model.test_cfg)).eval()
    conv = head.convs[-1]
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.copy_(torch.arange(4 * (4 + 4)))
    maps = [torch.randn(2, 4, n, n) for n in (20, 10, 5, 3, 2, 1)]
    scores, boxes = head(maps)
    assert boxes[-1][0].flatten().tolist() == [8 * a + i for a in range(4) for i in range(4)]
    assert scores[-1][0].flatten().tolist() == [8 * a + 4 + i for a in range(4) for i in range(4)]


def test_cvnets_neck_refuses_other_taps():
    from mobileone_mm.detection import CVNetsSSDNeck
    for taps in ((), (8, ) * 6):
        with pytest.raises(ValueError, match='in_channels'):
            CVNetsSSDNeck(in_channels=taps)
