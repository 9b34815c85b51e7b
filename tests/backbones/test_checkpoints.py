"""Checkpoints of all code bases load, and one that does not fit is refused."""

import argparse
import copy
import logging
import re
import zipfile

import pytest
import torch
from payload import Payload
from torch import nn

from mobileone_mm import MobileOne
from mobileone_mm.backbones import pretrained
from mobileone_mm.backbones.checkpoint_names import check_form, prefix_advice, to_apple_names
from mobileone_mm.backbones.pretrained import _check_keys, _drop_squeeze_excite
from mobileone_mm.backbones.unfold import match_batch_statistics
from mobileone_mm.utils.checkpoint_files import CheckpointError, is_folded, unwrap

S4_LIKE = dict(width_factor=(0.25, 0.25, 0.25, 0.25), num_conv_branches=(2, 2, 2, 2),
               num_blocks=(1, 2, 3, 1), num_se_blocks=(0, 0, 1, 1))

# Apple's names -> those of the other code bases. Written from their sources, independently of the
# renaming under test, which goes the other way.
DIALECTS = {
    'apple': [],
    'mmpretrain': [(r'rbr_conv\.(\d)\.bn', r'branch_conv_list.\1.norm'),
                   (r'rbr_conv\.(\d)\.conv', r'branch_conv_list.\1.conv'),
                   (r'rbr_scale\.bn', 'branch_scale.norm'), ('rbr_scale', 'branch_scale'),
                   ('rbr_skip', 'branch_norm'), ('reparam_conv', 'branch_reparam'),
                   (r'se\.reduce', 'se.conv1.conv'), (r'se\.expand', 'se.conv2.conv'),
                   (r'^linear\.', 'head.fc.')],
    'timm': [('^stage0', 'stem'), (r'^stage(\d)', lambda m: f'stages.{int(m[1]) - 1}'),
             ('rbr_conv', 'conv_kxk'), ('rbr_scale', 'conv_scale'), ('rbr_skip', 'identity'),
             (r'se\.reduce', 'attn.fc1'), (r'se\.expand', 'attn.fc2'), (r'^linear\.', 'head.fc.')],
    'cvnets': [('^stage0', 'conv_1'), (r'^stage(\d)', lambda m: f'layer_{int(m[1]) + 1}'),
               (r'rbr_(conv\.\d|scale)\.conv', r'rbr_\1.block.conv'),
               (r'rbr_(conv\.\d|scale)\.bn', r'rbr_\1.block.norm'),
               (r'se\.reduce', 'se.se_layer.fc1.block.conv'),
               (r'se\.expand', 'se.se_layer.fc2.block.conv'),
               (r'^linear\.', 'classifier.classifier_fc.')],
}


def translate(state_dict, dialect):
    """Rename from Apple's names."""
    translated = {}
    for key, value in state_dict.items():
        for pattern, replacement in DIALECTS[dialect]:
            key = re.sub(pattern, replacement, key)
        translated[key] = value
    return translated


def released(randomize, folded=False):
    """A classifier's state dict, Apple's names, and the net it belongs to."""
    net = randomize(MobileOne(S4_LIKE)).eval()
    if folded:
        net.switch_to_deploy()
    classifier = nn.Linear(net.out_channels[-1], 10)
    return net, {**net.state_dict(), 'linear.weight': classifier.weight.detach(),
                 'linear.bias': classifier.bias.detach()}


def load(checkpoint, **kwargs):
    """Build a backbone from a checkpoint through init_cfg, as a config does."""
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    init_cfg.update({k: kwargs.pop(k) for k in ('unfold', 'prefix', 'weights_only') if k in kwargs})
    model = MobileOne(**{'arch': S4_LIKE, **kwargs}, init_cfg=init_cfg)
    model.init_weights()
    return model.eval()


def assert_same_outputs(a, b, tolerance=0.):
    """Difference on random images, relative to the largest output."""
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        x, y = a(images)[0], b(images)[0]
    assert (x - y).abs().max() <= tolerance * x.abs().max()


@pytest.mark.parametrize('folded', [False, True])
@pytest.mark.parametrize('dialect', DIALECTS)
def test_every_code_base(dialect, folded, tmp_path, randomize):
    net, state_dict = released(randomize, folded)
    path = tmp_path / 'checkpoint.pth'
    torch.save(translate(state_dict, dialect), path)
    assert_same_outputs(net, load(path, deploy=folded))


@pytest.mark.parametrize('wrap', [
    lambda s: dict(state_dict=s, meta=dict(epoch=3)), lambda s: dict(model=s),
    lambda s: dict(state_dict_ema=s, state_dict={k: v * 0 for k, v in s.items()}),
    lambda s: {f'module.{k}': v for k, v in s.items()},
    lambda s: {f'_orig_mod.{k}': v for k, v in s.items()},
    lambda s: {f'module._orig_mod.{k}' if i % 2 else f'_orig_mod.module.{k}': v
               for i, (k, v) in enumerate(s.items())},
    lambda s: {k.replace('stage1.', 'stage1._orig_mod.'): v for k, v in s.items()},
    lambda s: dict(n_averaged=torch.tensor(3), **{f'module.{k}': v for k, v in s.items()}),
    lambda s: dict(arch='mobileone_s0', epoch=3, args=argparse.Namespace(lr=.1, opt=None),
                   state_dict={k: v * 0 for k, v in s.items()}, state_dict_ema=s),
    lambda s: dict(model_state_dict={k: v * 0 for k, v in s.items()}, ema_state_dict=s,
                   optim_state_dict={}, epoch=3),
    lambda s: dict(model_state_dict=s, epoch=3),
    lambda s: dict(state_dict=s, ema_state_dict={k: v * 0 for k, v in s.items()}, message_hub={}),
    lambda s: dict(state_dict={'neck.stage0.x': torch.zeros(1), 'head.fc.weight': torch.zeros(1),
                               **{f'backbone.{k}': v for k, v in s.items()}})])
def test_wrappers_and_prefixes(wrap, tmp_path, randomize):
    net, state_dict = released(randomize)
    torch.save(wrap(state_dict), tmp_path / 'checkpoint.pth')
    assert_same_outputs(net, load(tmp_path / 'checkpoint.pth'))


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_safetensors(name, tmp_path, randomize):
    safetensors = pytest.importorskip('safetensors.torch')
    net, state_dict = released(randomize)
    safetensors.save_file(translate(state_dict, 'timm'), tmp_path / name)
    assert_same_outputs(net, load(tmp_path / name))


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('as_zip', [True, False])
def test_pickle_protocols(protocol, as_zip, tmp_path, randomize):
    net, state_dict = released(randomize)
    torch.save(state_dict, tmp_path / 'x.pth', pickle_protocol=protocol,
               _use_new_zipfile_serialization=as_zip)
    assert_same_outputs(net, load(tmp_path / 'x.pth'))


def test_torchscript(tmp_path, randomize):
    net, _ = released(randomize)
    torch.jit.trace(net, torch.randn(1, 3, 32, 32)).save(tmp_path / 'traced.pt')
    assert_same_outputs(net, load(tmp_path / 'traced.pt'))


def test_a_timm_net_of_features_only(tmp_path, randomize):
    """There timm 1.0.31 names the stages stages_0 ... (seen in its FeatureListNet)."""
    net, state_dict = released(randomize)
    names = {re.sub(r'^stages\.', 'stages_', k): v
             for k, v in translate(state_dict, 'timm').items() if not k.startswith('head.')}
    torch.save(names, tmp_path / 'features.pth')
    assert_same_outputs(net, load(tmp_path / 'features.pth'))


@pytest.mark.parametrize('prefix', ['encoder', 'encoder.'])
def test_prefix_with_and_without_its_dot(prefix, tmp_path, randomize):
    net, state_dict = released(randomize)
    names = {f'encoder.{k}': v for k, v in translate(state_dict, 'cvnets').items()}
    torch.save(dict(names, **{'decoder.x': torch.zeros(1)}), tmp_path / 'net.pth')
    assert_same_outputs(net, load(tmp_path / 'net.pth', prefix=prefix))
    with pytest.raises(CheckpointError, match=r"try init_cfg with prefix='encoder\.'; its"):
        load(tmp_path / 'net.pth')
    with pytest.raises(CheckpointError, match=r"prefix='enc\.'; try .*'encoder\.'; its keys: enco"):
        load(tmp_path / 'net.pth', prefix='enc')


def test_the_home_folder(tmp_path, randomize, monkeypatch):
    net, state_dict = released(randomize)
    torch.save(state_dict, tmp_path / 'x.pth')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert_same_outputs(net, load('~/x.pth'))


@pytest.mark.parametrize('value, kind', [(float('nan'), 'NaN'), (float('inf'), 'infinite')])
def test_weights_that_are_not_finite(value, kind, tmp_path, randomize):
    _, state_dict = released(randomize)
    state_dict['stage1.0.rbr_scale.bn.bias'][1] = value
    torch.save(state_dict, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=f'weights are {kind}, stage1.0.rbr_scale.bn'):
        load(tmp_path / 'x.pth')


def test_pretrained_is_init_cfg(tmp_path, randomize):
    net, state_dict = released(randomize)
    torch.save(state_dict, tmp_path / 'x.pth')
    model = MobileOne(S4_LIKE, pretrained=str(tmp_path / 'x.pth'))
    model.init_weights()
    assert_same_outputs(net, model.eval())
    with pytest.raises(ValueError, match='either pretrained or init_cfg'):
        MobileOne(S4_LIKE, pretrained='x.pth', init_cfg=dict(type='Pretrained', checkpoint='x'))


@pytest.mark.parametrize('checkpoint', [{}, dict(checkpoint=None)])
def test_init_cfg_without_checkpoint(checkpoint):
    with pytest.raises(ValueError, match='needs checkpoint=, a path or URL'):
        MobileOne(S4_LIKE, init_cfg=dict(type='Pretrained', **checkpoint)).init_weights()


def test_an_unreachable_url_is_one_clear_error():
    with pytest.raises(CheckpointError, match='127.0.0.1:9/weights.*init_cfg=None'):
        load('http://127.0.0.1:9/weights.pth')


def test_another_variant_is_named(tmp_path):
    torch.save(MobileOne('s1').state_dict(), tmp_path / 's1.pth')
    with pytest.raises(CheckpointError, match=r's1\.pth holds a MobileOne-S1.*is a MobileOne-S0'):
        load(tmp_path / 's1.pth', arch='s0')


@pytest.mark.parametrize('kept', [0, 1, 100, 0.5, 0.999])
def test_truncated_file(kept, tmp_path, randomize):
    path = tmp_path / 'cut.pth'
    torch.save(released(randomize)[1], path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(CheckpointError, match=r'cut\.pth is truncated'):
        load(path)


def test_other_files(tmp_path):
    path = tmp_path / 'file.pth'
    with pytest.raises(FileNotFoundError, match='file.pth'):
        load(path)
    path.write_text('not a checkpoint')
    with pytest.raises(CheckpointError, match='truncated or not a checkpoint'):
        load(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.txt', 'not a checkpoint')
    with pytest.raises(CheckpointError, match='truncated or not a checkpoint'):
        load(path)
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match='no MobileOne backbone; its keys: weight, bias'):
        load(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match='no state dict'):
        load(path)


def test_nothing_pickled_is_run(tmp_path, randomize):
    net, state_dict = released(randomize)
    torch.save(dict(state_dict=state_dict, extra=Payload(tmp_path / 'ran')), tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match='weights_only=False'):
        load(tmp_path / 'file.pth')
    assert not (tmp_path / 'ran').exists()
    assert_same_outputs(net, load(tmp_path / 'file.pth', weights_only=False))
    assert (tmp_path / 'ran').exists()  # so the payload works


def test_form_mismatch(tmp_path, randomize):
    folded, state_dict = released(randomize, folded=True)
    torch.save(state_dict, tmp_path / 'folded.pth')
    with pytest.raises(CheckpointError, match='folded.pth is folded.*deploy=True.*unfold=True'):
        load(tmp_path / 'folded.pth')
    with pytest.raises(CheckpointError, match='deploy=True'):
        MobileOne(S4_LIKE).load_state_dict(folded.state_dict(), strict=False)
    with pytest.raises(CheckpointError, match='reparameterize'):
        folded.load_state_dict(MobileOne(S4_LIKE).state_dict(), strict=False)


def test_unfold_starts_from_the_folded_outputs(tmp_path, randomize):
    folded, state_dict = released(randomize, folded=True)
    torch.save(state_dict, tmp_path / 'folded.pth')
    model = load(tmp_path / 'folded.pth', unfold=True)
    assert not model.deploy
    assert_same_outputs(folded, model, tolerance=1e-4)

    images = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        expected = folded(images)[0]
        unmatched = copy.deepcopy(model).train()(images)[0]
        assert (unmatched - expected).abs().max() > 0.1 * expected.abs().max()
        match_batch_statistics(model, images)
        for mode in (False, True):  # train mode last: it moves the running statistics
            assert torch.allclose(model.train(mode)(images)[0], expected, rtol=1e-3, atol=1e-3)


def test_squeeze_excite_is_left_out_where_the_backbone_has_none(tmp_path, randomize):
    torch.save(released(randomize)[1], tmp_path / 'file.pth')
    model = load(tmp_path / 'file.pth', use_se=False, output_stride=16)
    assert not any('.se.' in key for key in model.state_dict())


@pytest.mark.parametrize('kwargs, problem', [
    (dict(num_conv_branches=3), 'missing from the file'),
    (dict(num_conv_branches=1), 'unknown to the backbone'),
    (dict(use_scale_branch=False), 'unknown to the backbone'),
    (dict(in_channels=1), 'stage0.rbr_conv.0.conv.weight: .*another|of another shape')])
def test_other_branches_do_not_load_silently(kwargs, problem, tmp_path, randomize):
    torch.save(released(randomize)[1], tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=problem):
        load(tmp_path / 'file.pth', **kwargs)


def test_pure_functions():
    assert unwrap(dict(model=dict(a=torch.ones(1)))) == dict(a=torch.ones(1))
    assert list(to_apple_names({'stem.conv_kxk.0.bn.weight': 1, 'head.fc.bias': 2})) == [
        'stage0.rbr_conv.0.bn.weight']
    assert is_folded({'stage0.reparam_conv.weight': 0})
    assert not is_folded({'stage0.rbr_conv.0.conv.weight': 0})


@pytest.mark.parametrize('prefix, expected', [
    (None, ['stage0.a']), ('backbone', ['stage0.a']), ('netX', ['stage0.b', 'stage1.b']),
    ('netX.', ['stage0.b', 'stage1.b']), ('net', ['stage0.c'])])
def test_a_prefix_chooses_one_of_several_networks(prefix, expected):
    keys = ('backbone.stem.a', 'netX.stem.b', 'netX.stages.0.b', 'netX.head.b', 'net.stem.c')
    assert list(to_apple_names(dict.fromkeys(keys), prefix)) == expected
    with pytest.raises(CheckpointError, match="no key .* prefix='other.'; try .*'backbone.'; its "):
        to_apple_names(dict.fromkeys(keys), 'other')
    assert list(to_apple_names({'stem.a': 0, 'linear.b': 0})) == ['stage0.a']


def test_the_form_of_the_weights_is_the_backbones():
    folded, unfolded = ({f'x.stage0.{key}.weight': 0} for key in (
        'reparam_conv', 'rbr_conv.0.conv'))
    check_form(folded, 'x.', deploy=True)
    check_form(unfolded, 'x.', deploy=False)
    check_form(folded, 'y.', deploy=False)
    check_form({}, 'x.', deploy=True)
    with pytest.raises(CheckpointError, match='^a.pth is folded but the backbone is not'):
        check_form(folded, 'x.', False, 'a.pth')
    with pytest.raises(CheckpointError, match='^the backbone has .* but the checkpoint is not fol'):
        check_form(unfolded, 'x.', True)


@pytest.mark.parametrize('keys, advice', [
    (['head.fc.weight', 'encoder.stem.bn.weight'], "; try init_cfg with prefix='encoder.'"),
    (['a.b.stage0.x', 'c.conv_1.x'], "; try init_cfg with prefix='a.b.'"),
    (['stem.x', 'encoder.stage1.x'], '')])
def test_the_advice_names_the_first_prefix(keys, advice):
    assert prefix_advice(dict.fromkeys(keys)) == advice


@pytest.mark.parametrize('changes, problem', [
    ({}, None),  # the count of batches may be missing
    (dict(w=None), '(1 missing from the file, such as w)'),
    (dict(w=None, b=None), '(2 missing from the file, such as w)'),
    (dict(c=torch.ones(1)), '(1 unknown to the backbone, such as c)'),
    (dict(b=torch.ones(3)), '(1 of another shape, such as b: (3,) in the file, (2,) in the'),
    (dict(w=None, c=torch.ones(1)), 'such as w; 1 unknown to the backbone, such as c)')])
def test_keys_that_do_not_fit_are_counted_and_named(changes, problem):
    own = dict(w=torch.ones(1), b=torch.ones(2))
    own['n.num_batches_tracked'] = torch.tensor(0)
    given = {key: value for key, value in {**own, **changes}.items() if value is not None}
    given.pop('n.num_batches_tracked')
    if problem is None:
        _check_keys(given, own, 'x.pth')
    else:
        with pytest.raises(CheckpointError, match=re.escape(problem)):
            _check_keys(given, own, 'x.pth')


def test_squeeze_excite_is_left_out_with_a_warning(monkeypatch):
    logged = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, **options: logged.append(
        (text, options)))
    assert list(_drop_squeeze_excite({'a.w': 0}, 'x.pth')) == ['a.w'] and not logged
    assert list(_drop_squeeze_excite({'a.w': 0, 'a.se.w': 0}, 'x.pth')) == ['a.w']
    (text, options), = logged
    assert 'x.pth has squeeze-and-excitation' in text
    assert options == dict(logger='current', level=logging.WARNING)


@pytest.mark.parametrize('arch', ['s0', 's1', 's4'])
@pytest.mark.parametrize('library', ['timm', 'mmpretrain'])
def test_the_other_libraries_agree(library, arch, tmp_path, randomize):
    """Their own networks and weights give the same features. Needs the library and torchvision."""
    if library == 'timm':
        timm = pytest.importorskip('timm', exc_type=ImportError)
        other = timm.create_model(f'mobileone_{arch}')
        features = other.forward_features
    else:
        backbones = pytest.importorskip('mmpretrain.models.backbones', exc_type=ImportError)
        other = backbones.MobileOne(arch)
        features = lambda x: other(x)[0]  # noqa: E731
    other.eval()  # mmpretrain's returns None
    randomize(other)
    torch.save(other.state_dict(), tmp_path / 'file.pth')
    model = load(tmp_path / 'file.pth', arch=arch)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a, b = features(images), model(images)[0]
    assert (a - b).abs().max() / a.abs().max() < 1e-5
