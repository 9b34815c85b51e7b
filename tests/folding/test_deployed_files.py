"""tools/test.py on a detector and a segmentor before and after folding.

Tolerances: rounding changes scores by 4e-6 and 2e-4 of the pixels, a block without its bias by 3e-2
and a third.
"""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_mm.commands.train_test import test as run_test
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.folding.models import build_model


def as_if_trained(model):
    """Give batch norms the statistics of some images, and the segmentor's head a balanced bias.

    With arbitrary statistics, later blocks would hide a wrong early block.
    """
    images = nn.functional.interpolate(torch.randn(8, 3, 16, 16), scale_factor=8, mode='bilinear')
    for bn in model.modules():
        if isinstance(bn, _BatchNorm):
            bn.reset_running_stats()
            bn.momentum = None  # a plain average
    with torch.no_grad():
        model.train()(images)
        for bn in model.modules():
            if isinstance(bn, _BatchNorm):
                bn.running_var.clamp_(min=.02)  # dividing by almost zero, maps would explode
        outputs = model.eval()(images)
        if hasattr(model, 'decode_head'):  # no class wins everywhere
            model.decode_head.conv_seg.bias -= outputs.mean((0, 2, 3))
    return model


@pytest.fixture
def evaluate(tmp_path, randomize, run_tool, pytestconfig):
    """A function from a config and a layout to the metrics before and after folding.

    Weights are random. Predictions are kept in ``<form>.pkl``, a folder for a segmentor.
    """
    def apply(config, layout):
        config = pytestconfig.rootpath / 'configs' / config
        data = make_shapes(tmp_path / 'data', layout, num_train=2, num_val=2)
        cfg = Config.fromfile(config)
        model = as_if_trained(randomize(build_model(cfg)))
        del cfg.default_hooks.reparameterize  # it would fold the unfolded one
        cfg.dump(tmp_path / 'unfolded.py')
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'unfolded.pth')
        assert run_tool('reparameterize', config, tmp_path / 'unfolded.pth',
                        tmp_path / 'folded.pth') == 0

        metrics = {}
        for form in ('unfolded', 'folded'):
            run_test([str(tmp_path / f'{form}.py'), str(tmp_path / f'{form}.pth'),
                      '--work-dir', str(tmp_path / form), '--out', str(tmp_path / f'{form}.pkl'),
                      '--cfg-options', f'data_root={data}',
                      'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
                      f'experiment_name={form}-{os.urandom(4).hex()}'])
            scalars, = (tmp_path / form).glob('*/*.json')
            metrics[form] = json.loads(scalars.read_text())
        return metrics
    return apply


def share_found(one, other):
    """Number of detections that both have, up to rounding.

    Not all: if an overlap equals the threshold up to rounding, only one of them may suppress.
    """
    same = one['labels'][:, None] == other['labels']
    same &= (one['scores'][:, None] - other['scores']).abs() < 1e-4
    same &= (one['bboxes'][:, None] - other['bboxes']).abs().amax(2) < .1
    return same.any(1).float().mean().item()


def test_detector(evaluate, tmp_path):
    pytest.importorskip('mmdet')
    evaluate('detection/ssdlite_mobileone_s0_shapes.py', 'coco')
    before, after = (pickle.loads((tmp_path / f'{form}.pkl').read_bytes())
                     for form in ('unfolded', 'folded'))
    assert len(before) == len(after) == 2
    for one, other in zip(before, after):
        one, other = one['pred_instances'], other['pred_instances']
        assert len(one['scores']) >= 50 and one['scores'].std() > 1e-3
        assert share_found(one, other) > .97


def test_segmentor(evaluate, tmp_path):
    pytest.importorskip('mmseg')
    metrics = evaluate('segmentation/deeplabv3_mobileone_s0_shapes.py', 'voc')
    before, after = ({path.name: np.array(Image.open(path)) for path in folder.iterdir()}
                     for folder in (tmp_path / 'unfolded.pkl', tmp_path / 'folded.pkl'))
    assert len(before) == 2 and before.keys() == after.keys()
    labels = np.concatenate([image.ravel() for image in before.values()])
    assert len(np.unique(labels)) >= 3  # or else the comparison says little
    assert np.mean([(before[name] != after[name]).mean() for name in before]) < 2e-3
    assert metrics['folded']['mIoU'] == pytest.approx(metrics['unfolded']['mIoU'], abs=0.05)
