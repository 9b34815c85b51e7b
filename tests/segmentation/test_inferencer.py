"""mmseg's MMSegInferencer on one of our checkpoints and on its folded files."""


import numpy as np
import pytest
import torch
from paths import ROOT

pytest.importorskip('mmseg')

import mobileone_mm  # noqa: E402, F401, I001
from mmengine.config import Config  # noqa: E402
from mmseg.apis import MMSegInferencer  # noqa: E402

from mobileone_mm.folding.models import build_model  # noqa: E402
from mobileone_mm.folding.deployed_files import write_deployed  # noqa: E402

CONFIG = ROOT / 'configs/segmentation/deeplabv3_mobileone_s0_nuclei.py'


def test_folded_files_predict_the_same(tmp_path, randomize):
    cfg = Config.fromfile(CONFIG)
    model = randomize(build_model(cfg))
    meta = dict(classes=('background', 'nucleus'), palette=[[0, 0, 0], [255, 0, 0]])
    trained = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(),
                    meta=dict(cfg=cfg.pretty_text, dataset_meta=meta)), trained)
    deployed = write_deployed(model, cfg, trained, tmp_path / 'deploy.pth')

    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    predictions = []
    for config, weights in ((CONFIG, trained), (deployed.config, deployed.weights)):
        inferencer = MMSegInferencer(str(config), str(weights), device='cpu')
        assert tuple(inferencer.model.dataset_meta['classes']) == meta['classes']
        predictions.append(inferencer(image, return_datasamples=True))
    assert inferencer.model.backbone.deploy
    before, after = (sample.seg_logits.data for sample in predictions)
    assert before.shape == (2, 90, 120) and before.std() > 0
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4 * before.abs().max().item())
    labels = inferencer(image, out_dir=str(tmp_path / 'out'))['predictions']
    assert np.array_equal(labels, after.argmax(0))
    assert list((tmp_path / 'out' / 'vis').glob('*'))
