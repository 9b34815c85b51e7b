"""Variants change what they say and nothing else, runs resume, and intervals are Student's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from paths import ROOT
from PIL import Image
from torchvision_stub import import_mmpretrain

from mobileone_mm.commands import ablation
from mobileone_mm.commands.ablation_report import draw_ablation, summarize, t_interval, table
from mobileone_mm.commands.train_test import train as real_train
from mobileone_mm.datasets.drawn.shapes import make_shapes

CONFIGS = ROOT / 'configs' / 'classification'


def config():
    return Config(dict(
        model=dict(backbone=dict(type='MobileOne', arch='s0')),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='score'),
                           weight_decay=dict(type='WeightDecayAnnealingHook')),
        custom_hooks=[dict(type='EMAHook'), dict(type='NumClassCheckHook')]))


# What each variant changes in the paper's recipe for S2; nothing else may differ.
CHANGES = {
    **{f'k{k}': {'model.backbone.num_conv_branches': k} for k in range(1, 6)},
    'no_scale': {'model.backbone.use_scale_branch': False},
    'no_skip': {'model.backbone.use_skip_branch': False},
    'plain': {'model.backbone.num_conv_branches': 1, 'model.backbone.use_scale_branch': False,
              'model.backbone.use_skip_branch': False},
    'no_annealing': {'default_hooks.weight_decay.min_ratio': 1.},
    'no_progressive': {'default_hooks.progressive.stages': [
        dict(epoch=1, resolution=224, strength=1.)]},
    'no_ema': {'custom_hooks': []},
    'baseline': {},
}


def test_variants_of_the_recipe():
    import_mmpretrain()
    recipe = Config.fromfile(CONFIGS / 'mobileone_s2_in1k.py')
    assert set(CHANGES) == set(ablation.VARIANTS)
    for name, change in CHANGES.items():
        expected = Config(recipe.to_dict())
        for key, value in change.items():  # merge_from_dict would merge into lists
            *parents, last = key.split('.')
            node = expected
            for parent in parents:
                node = node[parent]
            node[last] = value
        assert ablation.make_variant(recipe, name).to_dict() == expected.to_dict(), name


def test_write_variants(tmp_path):
    files = ablation.write_variants(config(), ['plain', 'k3'], tmp_path / 'new')
    plain, k3 = map(Config.fromfile, files)
    assert [file.name for file in files] == ['plain.py', 'k3.py']
    assert plain.model.backbone.use_skip_branch is False
    assert k3.model.backbone.num_conv_branches == 3 and 'weight_decay' in k3.default_hooks


def test_variants():
    cfg = config()
    assert ablation.make_variant(cfg, 'k3').model.backbone.num_conv_branches == 3
    hooks = ablation.make_variant(cfg, 'no_annealing').default_hooks
    assert hooks.weight_decay.min_ratio == 1. and hooks.checkpoint == cfg.default_hooks.checkpoint
    assert [h.type for h in ablation.make_variant(cfg, 'no_ema').custom_hooks] == [
        'NumClassCheckHook']
    assert cfg.to_dict() == config().to_dict(), 'the config must stay'
    with pytest.raises(ValueError, match='ProgressiveLearningHook, which the config does not'):
        ablation.make_variant(cfg, 'no_progressive')
    with pytest.raises(ValueError, match="unknown variant 'k9'"):
        ablation.make_variant(cfg, 'k9')


def fake_train(calls, stop_at=None):
    """Logs like mmengine: validations of 0.5, then a value that depends on the seed."""
    def train(argv):
        calls.append(argv)
        if len(calls) == stop_at:
            raise SystemExit(143)
        cfg = Config.fromfile(argv[0])
        folder = Path(argv[argv.index('--work-dir') + 1]) / '2026' / 'vis_data'
        folder.mkdir(parents=True)
        value = cfg.randomness.seed + cfg.model.backbone.get('num_conv_branches', 0)
        lines = [dict(loss=1.), dict(score=0.5), dict(loss=.5), dict(score=value)]
        (folder / 'scalars.json').write_text('\n'.join(json.dumps(line) for line in lines))
    return train


def test_stopped_and_resumed(tmp_path):
    calls, lines = [], []
    arguments = (config(), ['k1', 'k4'], [3, 7], tmp_path)
    with pytest.raises(SystemExit):
        ablation.run_ablation(*arguments, fake_train(calls, stop_at=3), lines.append)
    assert len(json.loads((tmp_path / 'results.json').read_text())['results']) == 2
    results = ablation.run_ablation(*arguments, fake_train(calls), lines.append)
    assert len(calls) == 5  # the third again, the fourth; not the first two
    assert all('--resume' in call for call in calls)
    assert [(r['variant'], r['seed'], r['value']) for r in results] == [
        ('k1', 3, 4.), ('k4', 3, 7.), ('k1', 7, 8.), ('k4', 7, 11.)]
    assert lines[-1] == '[4/4] k4, seed 7: score 11'
    changed = config()
    changed.model.backbone.arch = 's1'
    with pytest.raises(ValueError, match='results of another config'):
        ablation.run_ablation(changed, *arguments[1:], fake_train([]), lines.append)
    with pytest.raises(ValueError, match='each once'):
        ablation.run_ablation(config(), ['k1'], [1, 1], tmp_path, fake_train([]))


def test_intervals():
    values = [.71, .74, .69, .73]
    mean, sigma = np.mean(values), np.std(values, ddof=1)
    assert t_interval(values) == pytest.approx((mean, 3.182446 * sigma / 2))  # t(0.975; 3)
    assert math.isnan(t_interval([.5]).half_width)
    with np.errstate(all='raise'):
        shared = np.random.default_rng(0).normal(size=5)  # the effect of a seed on all variants
    results = [dict(variant=name, seed=i, metric='m', value=shared[i] + shift + 1e-3 * i * shift)
               for i in range(5) for name, shift in (('baseline', 0.), ('k1', 1.))]
    base, other = summarize(results)
    assert base.difference is None and other.difference.mean == pytest.approx(1.002)
    assert other.difference.half_width < .01 < other.interval.half_width


def test_report(tmp_path):
    results = [dict(variant=name, seed=i, metric='m', value=i + j)
               for i in range(3) for j, name in enumerate(('baseline', 'plain'))]
    rows = summarize(results)
    assert '| plain | 2 +- 2.5 | 1 +- 0 | one convolution' in table(rows, 'm')
    draw_ablation(rows, 'm', tmp_path / 'x.png', 'title')
    assert Image.open(tmp_path / 'x.png').size[0] == 880


def test_a_real_run(tmp_path):
    import_mmpretrain()
    cfg = Config.fromfile(CONFIGS / 'mobileone_s0_shapes.py')
    data = make_shapes(tmp_path / 'data', 'imagenet', num_train=8, num_val=2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
    cfg.merge_from_dict({
        'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 2, 'log_level': 'ERROR',
        'default_hooks.progressive.stages': [dict(epoch=1, resolution=32, strength=.5)]})
    del cfg.default_hooks['reparameterize']  # time
    results = ablation.run_ablation(cfg, ['plain'], [0], tmp_path / 'out', real_train)
    assert 0 <= results[0]['value'] <= 100 and results[0]['metric'] == 'accuracy/top1'
