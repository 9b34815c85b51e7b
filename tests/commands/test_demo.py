"""The demo on a handful of images, and what its report counts as a failure."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from mobileone_mm.commands import demo
from mobileone_mm.commands.demo import Report, run_demo
from mobileone_mm.datasets.drawn.shapes import make_shapes


def report(trained=(.4, .8), folded=(.4, .8)):
    trained, folded = (dict(zip(('mAP', 'mAP_50'), values)) for values in (trained, folded))
    return Report('mAP_50', trained, folded, least=.6, picture=Path('x.png'))


@pytest.mark.parametrize('folded, problems', [
    ((.4, .8), []),
    ((.40005, .8), []),
    ((.4002, .8), ['folding changed mAP from 0.400000 to 0.400200']),
    ((float('nan'), .8), ['folding changed mAP from 0.400000 to nan']),
    ((.4, .5), ['mAP_50 of the folded model is 0.500, expected at least 0.6',
                'folding changed mAP_50']),
])
def test_problems(folded, problems):
    found = report(folded=folded).problems()
    assert len(found) == len(problems)
    assert all(part in text for part, text in zip(problems, found))


def test_an_untrained_model_is_a_problem_even_if_folding_changes_nothing():
    assert len(report(trained=(.1, .2), folded=(.1, .2)).problems()) == 2


def test_the_caption_has_what_folding_changed():
    caption = dataclasses.replace(
        report(), megabytes=(25.53, 11.9), milliseconds=(41., 12.)).caption()
    assert 'mAP_50 0.800 → 0.800' in caption and '25.5 → 11.9 MB' in caption
    assert '41 → 12 ms' in caption


def test_unknown_task(tmp_path):
    with pytest.raises(ValueError, match="got 'pose'"):
        run_demo('pose', tmp_path, tmp_path)


def test_the_complete_demo(tmp_path, monkeypatch, capsys):
    """The demo of segmentation; CI runs that of detection."""
    pytest.importorskip('mmseg')
    name = 'segmentation'
    root = ROOT
    config = tmp_path / 'config.py'
    config.write_text(f"""
_base_ = {str(root / demo.TASKS[name].config)!r}
model = dict(backbone=dict(num_conv_branches=1))
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=1, val_interval=1)
log_level = 'ERROR'
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, 'make_shapes', lambda out, layout: make_shapes(out, layout, 4, 3))
    monkeypatch.setitem(demo.TASKS, name, dataclasses.replace(
        demo.TASKS[name], config=str(config)))
    first = run_demo(name, root, tmp_path / 'work')
    assert first.trained.keys() == first.folded.keys() and first.metric in first.trained
    assert all(0 <= value <= 1 for value in first.trained.values())
    # far from trained, but folding is exact
    assert [problem for problem in first.problems() if 'folding' in problem] == []
    assert any('expected at least' in problem for problem in first.problems())
    picture = np.asarray(Image.open(first.picture).convert('RGB'))
    assert picture.shape[0] > 700  # three rows
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    said = capsys.readouterr().out
    assert 4 <= len(said.splitlines()) < 12  # everything else is in the log
    assert 'training: 2 of 2 iterations' in said and 'validated folded: mIoU' in said
    assert 'Loads checkpoint' in (tmp_path / 'work/demo.log').read_text()
    assert 'Loads checkpoint' not in said
    # Again: no training, the same numbers.
    monkeypatch.setattr('mmengine.optim.OptimWrapper.update_params', None)
    assert run_demo(name, root, tmp_path / 'work') == first
