"""Every COCO config builds, and holds what the paper states."""


import pytest
from paths import ROOT

pytest.importorskip('mmdet')

import mobileone_mm.detection  # noqa: E402, F401, I001
from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import Config  # noqa: E402
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
