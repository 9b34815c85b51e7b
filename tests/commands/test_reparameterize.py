"""tools/reparameterize.py on the toy classifier (tests/helpers/toy_classifier.py)."""

import folding_faults
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from toy_classifier import TINY_ARCH, toy_config

from mobileone_mm.folding.models import build_model
from mobileone_mm.folding.reparameterize import reparameterize


@pytest.fixture
def files(tmp_path, randomize):
    """A config, a model and its checkpoint as mmengine saves it with EMAHook."""
    cfg = Config(toy_config(tmp_path / 'run', ema=True))
    cfg.dump(tmp_path / 'config.py')
    averaged, raw = randomize(build_model(cfg)).eval(), randomize(build_model(cfg))
    checkpoint = dict(
        meta=dict(epoch=3, dataset_meta=dict(classes=('a', 'b', 'c'))),
        state_dict=averaged.state_dict(),
        ema_state_dict={f'module.{key}': value for key, value in raw.state_dict().items()},
        optimizer=dict(state={}))
    torch.save(checkpoint, tmp_path / 'epoch_3.pth')
    return tmp_path, averaged


@pytest.fixture
def tool(files, run_tool):
    def run(*options, config='config.py', checkpoint='epoch_3.pth', out='out/folded.pth'):
        folder = files[0]
        return run_tool('reparameterize', *(folder / name for name in (config, checkpoint, out)),
                        *options)
    return run


def load(folder):
    """The model of the two files that the tool wrote."""
    model = build_model(Config.fromfile(folder / 'out' / 'folded.py')).eval()
    content = torch.load(folder / 'out' / 'folded.pth')
    model.load_state_dict(content['state_dict'], strict=True)
    return model, content


@pytest.mark.parametrize('options', [
    [], ['--verify'], ['--verify', 'val'], ['--fuse-conv-bn', '--verify']])
def test_folds_the_averaged_weights(tool, files, capsys, options):
    folder, averaged = files
    assert tool(*options) == 0
    model, content = load(folder)
    expected = reparameterize(averaged, fuse_conv_bn='--fuse-conv-bn' in options).state_dict()
    assert content['state_dict'].keys() == expected.keys()
    assert all(torch.equal(content['state_dict'][key], expected[key]) for key in expected)
    assert sorted(content) == ['meta', 'state_dict']
    assert content['meta']['dataset_meta'] == dict(classes=('a', 'b', 'c'))
    printed = capsys.readouterr().out
    assert f'-> {sum(p.numel() for p in model.parameters()):,}, weights' in printed
    assert ('Verified: ' in printed) is ('--verify' in options)


def test_half_is_cast_after_folding_and_loads(tool, files):
    folder, averaged = files
    assert tool() == 0
    full = load(folder)[1]['state_dict']
    assert tool('--half') == 0
    model, content = load(folder)
    half = content['state_dict']
    assert all(torch.equal(half[key], full[key].half()) for key in full if 'batches' not in key)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(image), averaged(image), rtol=1e-2, atol=1e-2)


def test_the_pair_of_files_tests_like_the_original(tool, files):
    folder, averaged = files
    assert tool('--verify') == 0

    def score(config, checkpoint):
        cfg = Config.fromfile(folder / config)
        cfg.work_dir, cfg.load_from = str(folder / 'test'), str(folder / checkpoint)
        cfg.default_hooks.pop('reparameterize', None)
        return Runner.from_cfg(cfg).test()['score']

    assert score('out/folded.py', 'out/folded.pth') == pytest.approx(
        score('config.py', 'epoch_3.pth'), abs=1e-6)


@pytest.fixture
def fails(tool, capsys):
    """A function that runs the tool and expects an error with that message."""
    def check(message, *options, **paths):
        assert tool(*options, **paths) == 1
        told = capsys.readouterr().err
        assert told.count('error: ') == 1 and message in told
    return check


def edit(folder, change):
    checkpoint = torch.load(folder / 'epoch_3.pth')
    change(checkpoint)
    torch.save(checkpoint, folder / 'epoch_3.pth')


def test_bad_input_is_one_clear_error_and_writes_nothing(tool, fails, files):
    folder, averaged = files
    fails('no checkpoint file', checkpoint='absent.pth')
    fails('must be named *.pth', out='out/folded.onnx')
    fails('would overwrite the input', out='epoch_3.pth')
    fails('would overwrite the input', out='config.pth')

    data = (folder / 'epoch_3.pth').read_bytes()
    for length in (0, len(data) // 2, len(data) - 100):
        (folder / 'short.pth').write_bytes(data[:length])
        fails('short.pth is truncated or not a checkpoint', checkpoint='short.pth')

    cfg = Config.fromfile(folder / 'config.py')
    cfg.model.backbone.arch = dict(TINY_ARCH, num_blocks=(1, 2, 1, 1))
    cfg.dump(folder / 'deeper.py')
    fails('not of the model that the config builds: of', config='deeper.py')
    cfg.model.backbone.arch = dict(TINY_ARCH, width_factor=(.25, .125, .125, .0625))
    cfg.dump(folder / 'wider.py')
    fails('of another shape (backbone.stage0', config='wider.py')

    cfg = Config.fromfile(folder / 'config.py')
    del cfg.model.norm_cfg  # the model's default, which the deploy config then cannot remove
    cfg.dump(folder / 'silent.py')
    fails('some part has batch norms that its config does not control', '--fuse-conv-bn',
          config='silent.py')

    with torch.no_grad():
        averaged.fc.weight[0, 0] = 1e6
    edit(folder, lambda checkpoint: checkpoint.update(state_dict=averaged.state_dict()))
    fails('fc.weight holds values beyond the range of float16', '--half')

    assert not (folder / 'out').exists()
    assert tool() == 0
    fails('folded.pth is already folded', checkpoint='out/folded.pth',
          out='out/again.pth')
    assert sorted(path.name for path in (folder / 'out').iterdir()) == ['folded.pth', 'folded.py']


@pytest.mark.parametrize('source', ['random', 'val'])
@pytest.mark.parametrize('fault', folding_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_each_folding_function_is_refused(fails, files, monkeypatch, fault, source):
    fault(monkeypatch)
    fails('is the first module whose folded output differs', '--verify', source)
    assert not (files[0] / 'out').exists()


def test_weights_that_are_not_numbers_are_refused(fails, files):
    edit(files[0], lambda checkpoint: checkpoint['state_dict']['neck.conv.weight'].fill_(
        float('nan')))
    fails('epoch_3.pth: the weights are NaN, neck.conv.weight first')
    assert not (files[0] / 'out').exists()


def test_a_failed_verification_writes_nothing(fails, files, monkeypatch):
    def wrong(model, **kwargs):
        folded = reparameterize(model, **kwargs)
        folded.backbone.stage3[1].reparam_conv.bias.data.zero_()
        return folded

    monkeypatch.setattr('mobileone_mm.folding.deployed_files.reparameterize', wrong)
    fails('backbone.stage3.1 is the first module', '--verify')
    assert not (files[0] / 'out').exists()
