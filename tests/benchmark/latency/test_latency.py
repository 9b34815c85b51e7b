"""Measure latency, on networks that take no time."""

import shutil

import numpy as np
import pytest
import torch
from paths import ROOT
from torch import nn

from mobileone_mm.benchmark.latency import forms, networks, paper, roofline, study, timing
from mobileone_mm.benchmark.latency.networks import Network
from mobileone_mm.benchmark.latency.thirty_layers import ThirtyLayers
from mobileone_mm.benchmark.report import build_report


def conv_net(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


@pytest.fixture
def tiny_networks(monkeypatch):
    """Three networks instead of the real table."""
    table = {f'tiny{width}': Network(f'tiny{width}', 'backbones', f'Tiny-{width}',
                                     lambda width=width: conv_net(width), group='others')
             for width in (4, 8, 16)}
    monkeypatch.setattr(networks, 'NETWORKS', table)
    monkeypatch.setattr(study.machine, 'measure_peak', lambda threads: study.machine.Peak(
        1., 'made up', 1., 1., threads))
    return table


def test_turns_are_interleaved_and_every_turn_calls():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in 'ab'}
    turns = list(timing.take_turns(calls, 2, turn_ms=0))
    assert order == ['a', 'b', 'a', 'b']
    assert [(name, len(ms)) for name, ms in turns] == [('a', 1), ('b', 1), ('a', 1), ('b', 1)]
    [(_, ms)] = timing.take_turns(dict(a=lambda: None), 1, turn_ms=2)
    assert len(ms) > 1 and sum(ms) >= 2


def test_summary_is_numpys():
    samples = list(np.random.default_rng(0).exponential(size=101))
    found = timing.summarize(samples)
    assert found.median == pytest.approx(np.median(samples))
    assert found.min == min(samples)
    assert (found.p10, found.p90) == pytest.approx(tuple(np.percentile(samples, [10, 90])))


def test_selection():
    names = [n.name for n in networks.select(['mobileone_s?', 'resnet18', 'branches'])]
    assert names[:5] == [f'mobileone_s{i}' for i in range(5)]
    assert 'resnet18' in names and '30_layers_branches_both' in names
    with pytest.raises(ValueError, match="no network matches 'resnet7'"):
        networks.select(['resnet7'])


def test_table_has_what_the_paper_correlates():
    folded = [n for n in networks.select(['backbones']) if n.form == 'folded']
    assert len(folded) >= 15
    assert set(paper.CLASSIFIERS) <= {n.name for n in folded}


@pytest.mark.parametrize(('name', 'library'), [
    ('mobileone_s0', ''), ('mobileone_s1', ''), ('mobilenet_v2_x1.0', 'mmdet'),
    ('mobilenet_v3_large', 'mmseg')])
def test_costs_are_those_of_the_papers_table_9(name, library):
    if library:
        pytest.importorskip(library)
    counted = study.count(forms.build(networks.NETWORKS[name]), 224)
    theirs = paper.CLASSIFIERS[name]
    assert counted['macs'] / 1e6 == pytest.approx(theirs.mflops, rel=.02)
    assert counted['params'] / 1e6 == pytest.approx(theirs.mparams, rel=.03)


def test_folding_keeps_the_outputs(randomize):
    net = randomize(conv_net(8)).eval()
    folded = forms.fold(net, 32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_a_wrong_fold_is_noticed(randomize):
    class NormFirst(nn.Module):
        """Layers that do not run in the order of their definition."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.bn(x))

    with pytest.raises(RuntimeError, match='folding changed an output'):
        forms.fold(randomize(NormFirst()).eval(), 32)


@pytest.mark.parametrize(('se', 'skip'), [(False, False), (True, False), (False, True)])
def test_thirty_layers(se, skip):
    net = ThirtyLayers('hard_swish', se=se, skip=skip)
    gates = {id(conv) for layer in net.layers if se for conv in layer.se.modules()}
    weights = [m for m in net.modules()
               if isinstance(m, (nn.Conv2d, nn.Linear)) and id(m) not in gates]
    assert len(weights) == 30
    # Ten depthwise layers of stride 1, and nine pointwise ones that keep their width.
    assert sum(layer.skip for layer in net.layers) == (19 if skip else 0)
    assert sum(isinstance(m, nn.Hardswish) for m in net.modules()) == 29
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_unknown_activation():
    with pytest.raises(ValueError, match="'tanhh'"):
        ThirtyLayers('tanhh')


def test_profile_counts_what_the_network_does(tmp_path):
    pytest.importorskip('onnxruntime')
    from mobileone_mm.export.graphs.trace import export_onnx
    net = forms.fold(conv_net(16).eval(), 64)
    image = torch.rand(1, 3, 64, 64)
    path = export_onnx(net, (image, ), tmp_path / 'net.onnx', ['image'], ['logits'])
    layers = roofline.profile(path, image.numpy(), runs=2)
    assert sum(layer.macs for layer in layers) == 32 * 32 * 16 * 27 + 16 * 4
    [conv] = [layer for layer in layers if layer.kind == 'dense']
    assert conv.bytes == 4 * (3 * 64 * 64 + 16 * 27 + 16 + 16 * 32 * 32)
    assert all(layer.ms > 0 for layer in layers)
    assert list(tmp_path.iterdir()) == [path]


def test_detectors_scores_are_spread():
    pytest.importorskip('mmdet')
    from mobileone_mm.benchmark.latency import tasks
    detector = tasks.ssdlite_mobileone('s0')
    with torch.no_grad():
        image = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
        maps = detector.bbox_head(detector.extract_feat(image))[0]
        scores = torch.cat([m.permute(0, 2, 3, 1).reshape(-1, 81).softmax(-1)[:, :-1]
                            for m in maps])
    assert abs(int((scores > detector.test_cfg.score_thr).sum()) - tasks.CANDIDATES) < 30


SETTINGS = dict(nets=('tiny*', ), backends=('torch', ), size=32, rounds=4, turn_ms=0, roofline=())


def test_an_interruption_keeps_what_was_measured(tmp_path, tiny_networks):
    def stop(done: int, total: int, text: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(study.Settings(**SETTINGS), tmp_path, progress=stop)
    assert [row.samples for row in study.Results.read(tmp_path).rows] == [3, 2, 2]


def test_results_are_reported(tmp_path, tiny_networks):
    folder = tmp_path / 'tiny'
    results = study.run(study.Settings(**SETTINGS), folder, 'the command')
    assert [row.samples for row in results.rows] == [4, 4, 4]
    assert results.rows[0].macs < results.rows[1].macs < results.rows[2].macs
    assert study.Results.read(folder).rows == results.rows

    files = build_report(folder)
    page = (tmp_path / 'tiny.md').read_text()
    assert 'the command' in page and all(row.label in page for row in results.rows)
    assert all(f'(tiny/{path.name})' in page for path in files if path.suffix == '.png')
    assert all(path.stat().st_size > 0 for path in files)
    assert {path.suffix for path in files} == {'.md', '.png'}


@pytest.mark.parametrize(('change', 'message'), [
    (dict(threads=0), 'threads must be at least 1, got 0'),
    (dict(size=8), 'size must be at least 32 pixels, got 8'),
    (dict(backends=('tensorflow', )), "got 'tensorflow'"),
    (dict(nets=('huge', )), "no network matches 'huge'")])
def test_bad_settings_are_refused(tmp_path, tiny_networks, change, message):
    with pytest.raises(ValueError, match=message):
        study.run(study.Settings(**dict(SETTINGS, **change)), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_report_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match='latency.py first'):
        build_report(tmp_path)


def test_the_documented_page_is_what_the_report_makes_of_its_results(tmp_path):
    docs = ROOT / 'docs'
    folder = tmp_path / 'latency'
    folder.mkdir()
    shutil.copy(docs / 'latency/latency.json', folder)
    files = build_report(folder)
    assert (tmp_path / 'latency.md').read_text() == (docs / 'latency.md').read_text()
    assert {path.name for path in files} - {'latency.md'} == {
        path.name for path in (docs / 'latency').iterdir()} - {'latency.json', 'latency.csv'}
    study.Results.read(folder).write(tmp_path)
    for name in ('latency.json', 'latency.csv'):
        assert (tmp_path / name).read_text() == (docs / 'latency' / name).read_text()
