"""Windows that leave gaps are refused before anything is built."""

import pytest
from mmengine.config import Config
from paths import ROOT

from mobileone_mm.commands.train_test import test as evaluate
from mobileone_mm.utils.libraries import PreflightError
from mobileone_mm.utils.sliding_windows import check_windows


def config(**test_cfg):
    return Config(dict(model=dict(test_cfg=dict(mode='slide', **test_cfg))))


@pytest.mark.parametrize('test_cfg, message', [
    (dict(crop_size=(64, 64), stride=(96, 32)), r'stride \(96, 32\) is larger than crop_size'),
    (dict(crop_size=(64, 64)), 'needs stride=.height, width. in pixels, got None'),
    (dict(crop_size=64, stride=(32, 32)), 'needs crop_size=.*, got 64'),
    (dict(crop_size=(64, 64), stride=(0, 32)), r'needs stride=.*, got \(0, 32\)')])
def test_gaps_are_refused(test_cfg, message):
    with pytest.raises(PreflightError, match=message):
        check_windows(config(**test_cfg))


def test_what_covers_the_image_passes():
    check_windows(config(crop_size=(64, 64), stride=(64, 42)))
    check_windows(Config(dict(model=dict(test_cfg=dict(mode='whole', stride=(9, 9))))))
    check_windows(Config())


def test_the_tool_refuses_them():
    pytest.importorskip('mmseg')
    with pytest.raises(PreflightError, match='pixels between the windows would have no label'):
        evaluate([str(ROOT / 'configs/segmentation/deeplabv3_mobileone_s0_nuclei.py'), 'none.pth',
                  '--cfg-options', 'model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(64,64)',
                  'model.test_cfg.stride=(96,96)'])
