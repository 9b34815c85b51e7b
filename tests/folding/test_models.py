"""A config's model is built as the Runner does, and takes all weights of a checkpoint or none."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mobileone_mm.folding.models import build_model, load_weights, misfits
from mobileone_mm.utils.checkpoint_files import CheckpointError, NonFiniteWeightsError
from mobileone_mm.utils.errors import PreflightError


@MODELS.register_module()
class OneNorm(BaseModel):
    def __init__(self, data_preprocessor=None, norm_cfg=None):
        super().__init__(data_preprocessor)
        if norm_cfg:
            norm_cfg.pop('type')  # as some models change what they get
        self.norm = nn.BatchNorm2d(2)

    def forward(self, inputs):
        return self.norm(inputs)


@pytest.mark.parametrize('given, scope', [({}, 'mmengine'), (dict(default_scope='a'), 'a')])
def test_the_scope_is_the_configs(given, scope):
    assert isinstance(build_model(Config(dict(model=dict(type='OneNorm'), **given))), OneNorm)
    assert DefaultScope.get_current_instance().scope_name == scope


def preprocessor(**options):
    return dict(type='BaseDataPreprocessor', **options)


@pytest.mark.parametrize('own, given, blocking', [
    (None, None, False), (None, dict(non_blocking=True), True),
    (dict(non_blocking=True), {}, True)])
def test_the_models_own_preprocessor_comes_first(own, given, blocking):
    model = dict(type='OneNorm', norm_cfg=dict(type='BN'))
    if own is not None:
        model['data_preprocessor'] = preprocessor(**own)
    cfg = Config(dict(model=model))
    if given is not None:
        cfg.data_preprocessor = preprocessor(**given)
    before = copy.deepcopy(cfg.to_dict())
    assert build_model(cfg).data_preprocessor._non_blocking is blocking
    assert cfg.to_dict() == before


def test_a_config_without_a_model_is_named(tmp_path):
    with pytest.raises(PreflightError, match='^the config has no model$'):
        build_model(Config(dict(model=None)))
    (tmp_path / 'empty.py').write_text('a = 1')
    with pytest.raises(PreflightError, match='empty.py has no model$'):
        build_model(Config.fromfile(tmp_path / 'empty.py'))


def saved(path, weights, **content):
    torch.save(dict(state_dict=weights, **content), path)
    return path


@pytest.mark.parametrize('meta, expected', [(dict(epoch=3), dict(epoch=3)), ([3], {}), (None, {})])
def test_weights_and_meta_are_returned(tmp_path, meta, expected):
    weights = {f'module.norm.{name}': torch.rand(2)
               for name in ('weight', 'bias', 'running_mean', 'running_var')}
    model = OneNorm()  # which also counts batches
    assert load_weights(model, saved(tmp_path / 'a.pth', weights, meta=meta)) == expected
    assert all(torch.equal(model.state_dict()[name[len('module.'):]], weight)
               for name, weight in weights.items())


@pytest.mark.parametrize('change, error, message', [
    (dict(weight=torch.ones(3)), CheckpointError,
     'a.pth is not of the model that the config builds: of 5 weights 1 of another shape '
     r'\(norm.weight, ...\)$'),
    (dict(weight=torch.tensor([1, float('inf')])), NonFiniteWeightsError,
     'a.pth: the weights are infinite, norm.weight first'),
    ({'conv.reparam_conv.weight': torch.ones(1)}, CheckpointError, 'a.pth is already folded'),
])
def test_nothing_is_loaded_of_what_does_not_fit(tmp_path, change, error, message):
    model = OneNorm()
    before = copy.deepcopy(model.state_dict())
    weights = {name: value + 1 for name, value in before.items()}
    weights.update((f'norm.{name}', value) for name, value in change.items())
    with pytest.raises(error, match=message):
        load_weights(model, saved(tmp_path / 'a.pth', weights))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_file_without_weights_is_named(tmp_path):
    torch.save(dict(epoch=1), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='a.pth holds no state dict'):
        load_weights(OneNorm(), tmp_path / 'a.pth')


def test_a_folded_model_takes_folded_weights(tmp_path):
    model = nn.ModuleDict(dict(reparam_conv=nn.Conv2d(1, 1, 1)))
    model = nn.Sequential(model)
    weights = {name: value + 1 for name, value in model.state_dict().items()}
    load_weights(model, saved(tmp_path / 'a.pth', weights))
    assert torch.equal(model[0].reparam_conv.weight, weights['0.reparam_conv.weight'])


def test_misfits_are_counted_and_the_first_is_named():
    own = dict(a=torch.ones(2), b=torch.ones(2), c=torch.ones(2), same=torch.ones(2))
    own['norm.num_batches_tracked'] = torch.tensor(0)
    weights = dict(c=torch.ones(2, 1), d=torch.ones(1), same=torch.zeros(2))
    assert misfits(own, weights) == ['2 missing (a, ...)', '1 unknown (d, ...)',
                                     '1 of another shape (c, ...)']
    assert misfits(own, own) == []
