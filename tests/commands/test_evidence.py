"""The bookkeeping of tools/evidence: which runs a table holds, and what is estimated."""

import importlib
import json

import pytest
from paths import ROOT

for library in ('mmdet', 'mmseg'):
    pytest.importorskip(library)


@pytest.fixture
def evidence(monkeypatch):
    """A function that imports one of the scripts."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'evidence'))
    return importlib.import_module


def test_comparison_in_the_same_epochs_and_time(evidence, tmp_path):
    """Two seeds are done by all; the other network takes twice the time, so half the epochs."""
    script = evidence('compare_recipes')
    study = script.STUDIES['bccd']
    names = ['MobileOne-S0', 'MobileNetV2', 'MobileNetV2, same time']
    results = {f'{name}/{seed}': dict(value=value + seed, epochs=4, seconds=8.,
                                      seconds_an_iteration=1. + ('Net' in name))
               for name, value in zip(names, (3., 2., 1.)) for seed in (0, 1)}
    results['MobileOne-S0/2'] = dict(results['MobileOne-S0/0'])
    (tmp_path / 'results.json').write_text(json.dumps(results))
    comparison = script.Comparison(study, names, tmp_path, tmp_path, epochs=4)
    assert [comparison.epochs_of(name, 0) for name in names] == [4, 4, 2]
    comparison.write([0, 1, 2])
    rows = (tmp_path / 'results.md').read_text().splitlines()
    assert 'seeds [0, 1],' in rows[0]
    assert rows[2].startswith('| MobileOne-S0 | 3.5 +- 6.4 |  | 4 | 8 |')  # t(0.975, 1) / 2 = 6.35
    assert rows[4].startswith('| MobileNetV2, same time | 1.5 +- 6.4 | -2 +- 0 | 4 | 8 |')


def test_a_failed_training_says_why(evidence, tmp_path):
    trainings = evidence('trainings')
    (tmp_path / 'config.py').write_text('raise ValueError("no such recipe")')
    with pytest.raises(RuntimeError, match='no such recipe'):
        trainings.run(tmp_path / 'config.py', tmp_path / 'work')


def test_dry_run_tells_what_is_missing(evidence):
    """An estimate from CPU time, and one from a GPU's own; rows that did not get to the end."""
    script = evidence('dry_run')
    row = dict(device='CPU', amp=False, batch=2, seconds=.5, memory_mb=7, images=128 * 72000,
               losses=[1.], validated=True, deployed=True)
    text = script.table({
        'b': row, 'a': dict(row, losses=[float('nan')]), 'c': dict(row, validated=False),
        'd': dict(row, deployed=False), 'e': dict(error='ValueError: x'),
        'f': dict(row, device='H200'), 'g': dict(row, images=0)}, backbone=.025)
    ends = {line.split(' | ')[0][2:]: line for line in text.splitlines()[2:]}
    # 10 times the backbone's 0.025 s; 19.5 and 86 ms for 128 images
    assert '| 3.9 to 17.2 | trained, validated, folded |' in ends['b']
    for name in 'acd':
        assert ends[name].endswith('| incomplete |')
    assert 'failed: ValueError: x' in ends['e']
    assert '| 640.0 | trained' in ends['f'] and '|  | trained' in ends['g']
