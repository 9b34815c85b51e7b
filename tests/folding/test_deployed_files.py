"""What the two files hold; tools/test.py on a detector and a segmentor before and after folding.

Tolerances: rounding changes scores by 4e-6 and 2e-4 of the pixels, a block without its bias by 3e-2
and a third.
"""

import copy
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from toy_classifier import TINY_ARCH, toy_config

from mobileone_mm.commands.train_test import test as run_test
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.folding import deployed_files
from mobileone_mm.folding.deployed_files import (
    DeployedFiles,
    check_loads,
    deployed_config,
    drop_training_hooks,
    write_deployed,
)
from mobileone_mm.folding.models import build_model
from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.utils.checkpoint_files import CheckpointError


def test_every_mobileone_is_deployed_and_other_norms_only_if_they_are_fused():
    norm = dict(type='BN')
    mobileone = dict(type='mmdet.MobileOne', norm_cfg=norm, init_cfg=dict(type='Pretrained'))
    model = dict(teacher=dict(backbone=mobileone), norm_cfg=norm, others=[
        dict(type='Head', norm_cfg=norm), (mobileone, dict(deploy=False))])
    cfg = Config(dict(model=model))
    before = copy.deepcopy(cfg.to_dict())
    for fuse in (False, True):
        found = deployed_config(cfg, fuse).model
        head, (second, other) = found.others
        for each in (found.teacher.backbone, second):
            assert each == dict(mobileone, deploy=True, init_cfg=None)
        assert found.norm_cfg == head.norm_cfg == (None if fuse else norm)
        assert other == dict(deploy=False) and 'norm_cfg' not in found.teacher
    assert deployed_config(cfg).model.norm_cfg == norm and cfg.to_dict() == before


def test_what_belongs_to_training_is_removed():
    hooks = [dict(type='EMAHook'), dict(type='mmengine.ReparameterizeHook'), dict(type='Other')]
    cfg = Config(dict(
        model=dict(), load_from='x.pth', resume=True, launcher='slurm', custom_hooks=hooks,
        default_hooks=dict(fold=hooks[1], log=dict(type='LoggerHook')),
        train_dataloader=dict(dataset=dict(type='SeededDataset', dataset=dict(type='Data')))))
    found = deployed_config(cfg)
    assert (found.load_from, found.resume, found.launcher) == (None, False, 'none')
    assert found.custom_hooks == [dict(type='Other')]
    assert found.default_hooks == dict(log=dict(type='LoggerHook'))
    assert found.train_dataloader.dataset == dict(type='Data')
    assert cfg.train_dataloader.dataset.type == 'SeededDataset'


@pytest.mark.parametrize('options', [
    dict(), dict(custom_hooks=None, default_hooks=None, train_dataloader=None),
    dict(train_dataloader=dict(batch_size=2)),
    dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(type='Data'))))])
def test_configs_without_such_parts(options):
    found = deployed_config(Config(dict(model=dict(), **options)))
    assert found.custom_hooks == [] and found.default_hooks == {}
    assert found.get('train_dataloader') == options.get('train_dataloader')
    cfg = Config(options)
    drop_training_hooks(cfg)
    assert cfg.custom_hooks == [] and cfg.default_hooks == {}
    with pytest.raises(ValueError, match='the config has no `model`'):
        deployed_config(cfg)


@pytest.fixture
def toy(tmp_path, randomize):
    """A config, its model and a checkpoint."""
    cfg = Config(toy_config(tmp_path))
    model = randomize(build_model(cfg))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=2), optimizer=1),
               tmp_path / 'trained.pth')
    return cfg, model, tmp_path / 'trained.pth'


def test_the_files_and_their_sizes(toy, tmp_path):
    cfg, model, trained = toy
    other = build_model(cfg)  # takes the checkpoint's weights
    seen = []
    out = tmp_path / 'a/b/folded.pth'
    found = write_deployed(other, cfg, str(trained), str(out), fuse_conv_bn=True,
                           verify=lambda *pair: seen.append((*pair, out.parent.exists())))
    (unfolded, folded, exists), = seen
    assert unfolded is other and not unfolded.training and not exists
    expected = reparameterize(model.eval(), fuse_conv_bn=True).state_dict()
    content = torch.load(out)
    assert sorted(content) == ['meta', 'state_dict']
    assert list(content['state_dict']) == list(expected)
    assert all(torch.equal(content['state_dict'][key], expected[key]) for key in expected)
    text = deployed_config(cfg, True).pretty_text
    assert out.with_suffix('.py').read_text() == text != deployed_config(cfg).pretty_text
    assert content['meta'] == dict(epoch=2, cfg=text)
    check_loads(folded, Config.fromfile(found.config))
    numbers = [[sum(p.numel() for p in net.parameters()),
                sum(t.numel() * t.element_size() for t in net.state_dict().values())]
               for net in (folded, model)]
    assert found == (out, out.with_suffix('.py'), *numbers[0], *numbers[1])


def test_norms_are_kept_unless_asked(toy, tmp_path):
    cfg, model, trained = toy
    found = write_deployed(model, cfg, trained, tmp_path / 'folded.pth')
    assert 'neck.bn.weight' in torch.load(found.weights)['state_dict']
    assert Config.fromfile(found.config).model.norm_cfg == dict(type='BN')


def test_half_precision_is_checked(toy, tmp_path):
    cfg, model, trained = toy
    found = write_deployed(model, cfg, trained, tmp_path / 'half.pth', half=True)
    weights = torch.load(found.weights)['state_dict']
    assert {w.dtype for w in weights.values()} == {torch.float16, torch.int64}
    assert found.bytes == sum(w.numel() * w.element_size() for w in weights.values())
    small = dict(a=torch.tensor([65504.]), count=torch.tensor(1 << 40))
    assert deployed_files._to_half(small)['count'] == 1 << 40
    with pytest.raises(ValueError, match='^b holds values beyond the range of float16'):
        deployed_files._to_half(dict(small, b=torch.tensor([1., 65520.])))


def test_a_folded_model_is_refused_before_its_weights_are_read(toy, tmp_path):
    cfg = toy[0]
    cfg.model.backbone = dict(type='MobileOne', arch=TINY_ARCH, deploy=True)
    with pytest.raises(ValueError, match='the config builds a folded model'):
        write_deployed(build_model(cfg), cfg, tmp_path / 'absent.pth', tmp_path / 'out.pth')


def test_a_refusal_leaves_no_file(toy, tmp_path):
    def refuse(model, folded):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        write_deployed(toy[1], toy[0], toy[2], tmp_path / 'out/folded.pth', verify=refuse)
    assert not (tmp_path / 'out').exists()


def test_norms_that_the_config_does_not_control(toy):
    cfg, model, _ = toy
    folded = reparameterize(model.eval(), fuse_conv_bn=True)
    with pytest.raises(CheckpointError, match='the deploy config cannot build this folded model'):
        check_loads(folded, deployed_config(cfg))
    check_loads(folded, deployed_config(cfg, fuse_conv_bn=True))


def test_inputs_are_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path('folded.pth')
    deployed_files._check_out(out, 'other.pth', None)
    for name in ('folded.pth', tmp_path / 'folded.py', 'x/../folded.py'):
        with pytest.raises(ValueError, match='^folded.pth would overwrite the input '):
            deployed_files._check_out(out, 'other.pth', name)
    with pytest.raises(ValueError, match=r'must be named \*.pth, got folded.py'):
        deployed_files._check_out(Path('folded.py'))


def test_neither_checkpoint_nor_config_is_overwritten(toy, tmp_path):
    cfg, model, trained = toy
    before = trained.read_bytes()
    with pytest.raises(ValueError, match='would overwrite the input .*trained.pth'):
        write_deployed(model, cfg, trained, trained)
    cfg.dump(tmp_path / 'a.py')
    with pytest.raises(ValueError, match='would overwrite the input .*a.py'):
        write_deployed(model, Config.fromfile(tmp_path / 'a.py'), trained, tmp_path / 'a.pth')
    assert trained.read_bytes() == before and not (tmp_path / 'a.pth').exists()


def test_what_is_printed():
    files = DeployedFiles(Path('a/x.pth'), Path('a/x.py'), 1000, 4000, 2000, 8000)
    assert str(files) == (f'{Path("a/x.pth")} and x.py: parameters 2,000 -> 1,000, weights 8,000 '
                          '-> 4,000 bytes')


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
