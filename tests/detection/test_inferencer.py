"""mmdet's DetInferencer on one of our checkpoints and on its folded files."""


import numpy as np
import pytest
import torch
from paths import ROOT

pytest.importorskip('mmdet')

import mobileone_mm  # noqa: E402, F401, I001
from mmdet.apis import DetInferencer  # noqa: E402
from mmengine.config import Config  # noqa: E402

from mobileone_mm.folding.models import build_model  # noqa: E402
from mobileone_mm.folding.deployed_files import write_deployed  # noqa: E402

CONFIG = ROOT / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


def test_folded_files_predict_the_same(tmp_path, randomize):
    cfg = Config.fromfile(CONFIG)
    model = randomize(build_model(cfg))
    classes = cfg.val_dataloader.dataset.metainfo.classes
    trained = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(
        cfg=cfg.pretty_text, dataset_meta=dict(classes=classes, palette=None))), trained)
    deployed = write_deployed(model, cfg, trained, tmp_path / 'deploy.pth')

    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3), np.uint8)
    results = []
    for config, weights in ((CONFIG, trained), (deployed.config, deployed.weights)):
        inferencer = DetInferencer(str(config), str(weights), device='cpu', show_progress=False)
        assert tuple(inferencer.model.dataset_meta['classes']) == tuple(classes)
        results.append(inferencer(image, out_dir=str(tmp_path / 'out'), pred_score_thr=0.1))
    assert inferencer.model.backbone.deploy
    before, after = (result['predictions'][0] for result in results)
    assert len(before['scores']) == 200  # as many as the config allows
    np.testing.assert_allclose(after['scores'], before['scores'], rtol=0, atol=1e-4)
    assert list((tmp_path / 'out' / 'vis').glob('*.jpg'))
