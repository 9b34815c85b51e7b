"""mmseg without a distribution named mmsegmentation, as the maintained fork installs it."""

from importlib.metadata import PackageNotFoundError

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from paths import ROOT

from mobileone_mm.utils import compat

CONFIG = ROOT / 'configs/segmentation/deeplabv3_mobileone_s0_shapes.py'


@pytest.fixture
def without_distribution(monkeypatch):
    """Hide the distribution from mmengine and from us."""
    def version(name):
        raise PackageNotFoundError(name)
    monkeypatch.setattr(compat, 'version', version)
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation-is-not-here')


def test_the_base_of_a_config_is_found_by_module(without_distribution):
    pytest.importorskip('mmseg')
    with pytest.raises(ModuleNotFoundError, match='mmsegmentation-is-not-here'):
        Config.fromfile(CONFIG)
    compat.find_forks()
    assert Config.fromfile(CONFIG).default_scope == 'mmseg'


def test_without_mmseg_the_distribution_is_required(without_distribution, monkeypatch):
    monkeypatch.setattr(compat, 'find_spec', lambda name: None)
    compat.find_forks()
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation-is-not-here'
