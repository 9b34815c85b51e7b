"""Spoiled statistics are found and repaired; frozen norms stay."""

import copy
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from paths import ROOT
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from toy_classifier import TINY_ARCH, ToyDataset, toy_config

from mobileone_mm.commands.bn_statistics import (
    TrainingBatches,
    measure_gap,
    rank_shifts,
    reestimate,
    statistics,
    write_reestimated,
)
from mobileone_mm.utils.checkpoint_files import NonFiniteWeightsError, read_checkpoint


@pytest.fixture
def batches():
    return list(DataLoader(ToyDataset(noise=0.5), batch_size=4))


def model(**backbone):
    return MODELS.build(dict(type='ToyClassifier', backbone=dict(
        type='MobileOne', arch=TINY_ARCH, **backbone))).eval()


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_equals_torchs_update_bn(batches):
    ours = model()
    theirs = copy.deepcopy(ours)
    assert reestimate(ours, batches) == sum('running_mean' in name for name in ours.state_dict())
    theirs.dropout.p = 0.
    update_bn((batch['inputs'] for batch in batches), theirs)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)
    assert not ours.training and all(
        norm.momentum == 0.1 for norm in ours.modules() if hasattr(norm, 'momentum'))


def test_gap_of_spoiled_statistics_and_its_repair(batches, randomize):
    spoiled = model()
    reestimate(spoiled, batches)
    gap = measure_gap(spoiled, batches)
    assert gap.eval < 1.2 * gap.train
    with torch.no_grad():
        for norm in (m for m in spoiled.modules() if hasattr(m, 'running_mean')):
            norm.running_mean.add_(3 * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(0.1)
    before = state(spoiled)
    gap_spoiled = measure_gap(spoiled, batches)
    assert gap_spoiled.train == pytest.approx(gap.train, rel=1e-5)
    assert gap_spoiled.eval > 2 * gap.eval
    for name, value in spoiled.state_dict().items():
        assert torch.equal(value, before[name]), f'measuring changed {name}'
    stats = statistics(spoiled)
    reestimate(spoiled, batches)
    repaired = measure_gap(spoiled, batches)
    assert repaired.eval == pytest.approx(gap.eval, rel=1e-4)
    shifts = rank_shifts(stats, statistics(spoiled))
    assert len(shifts) == len(stats) and shifts[0].mean > 3 and shifts[0].mean >= shifts[-1].mean


def test_frozen_norms_and_weights_stay(batches, randomize):
    partly = randomize(model(frozen_stages=1))
    before = state(partly)
    assert 0 < reestimate(partly, batches) < len(statistics(partly))
    changed = {name for name, value in partly.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed and all('running' in name or 'tracked' in name for name in changed)
    assert not any('stage0' in name or 'stage1' in name for name in changed)
    gap = measure_gap(randomize(model(norm_eval=True)), batches)
    assert gap.train != gap.eval  # the neck's norm is not frozen


def test_written_whole_or_not_at_all(tmp_path, batches, monkeypatch):
    trained, out = tmp_path / 'epoch_1.pth', tmp_path / 'out' / 'new.pth'
    original = model()
    torch.save(dict(meta=dict(epoch=1), state_dict=original.state_dict(), optimizer={}), trained)
    with pytest.raises(ValueError, match='a.txt: expected a name that ends with .pth'):
        write_reestimated(original, trained, tmp_path / 'a.txt', batches)
    with pytest.raises(ValueError, match='would overwrite'):
        write_reestimated(model(), trained, trained, batches)
    with pytest.raises(ValueError, match='no batch norm'):
        write_reestimated(model(), trained, out, [])
    write_reestimated(model(), trained, out, batches)
    written = read_checkpoint(out)
    assert set(written) == {'meta', 'state_dict'} and written['meta'] == dict(epoch=1)
    reestimate(original, batches)
    for name, value in original.state_dict().items():
        torch.testing.assert_close(written['state_dict'][name], value, msg=name)

    def fail(*args):
        raise OSError('no space left on device')
    content = out.read_bytes()
    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='no space'):
        write_reestimated(model(), trained, out, batches)
    assert out.read_bytes() == content and list(out.parent.iterdir()) == [out]


def test_weights_that_are_not_numbers_are_not_measured(tmp_path, batches):
    diverged = model().state_dict()
    diverged['fc.bias'][0] = float('nan')
    torch.save(dict(state_dict=diverged), tmp_path / 'diverged.pth')
    with pytest.raises(NonFiniteWeightsError, match='the weights are NaN, fc.bias first'):
        write_reestimated(model(), tmp_path / 'diverged.pth', tmp_path / 'out.pth', batches)
    assert not (tmp_path / 'out.pth').exists()


def test_training_batches_are_the_same_each_time(tmp_path):
    cfg = Config(toy_config(tmp_path))
    batches = TrainingBatches(cfg, 2)
    first, second = list(batches), list(batches)
    assert len(batches) == len(first) == 2 and len(TrainingBatches(cfg, 9)) == 3
    for a, b in zip(first, second):
        assert torch.equal(a['inputs'], b['inputs'])
    with pytest.raises(ValueError, match='at least 1'):
        TrainingBatches(cfg, 0)


def test_tool_reports_errors_without_a_traceback(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmdet')
    root = ROOT
    config = root / 'configs/detection/ssdlite_mobileone_s0_coco.py'
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['bn_statistics.py', str(config), 'gone.pth'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(root / 'tools/bn_statistics.py'), run_name='__main__')
    assert stop.value.code == 1 and 'do not exist' in capsys.readouterr().err
