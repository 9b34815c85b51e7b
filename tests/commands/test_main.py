"""Commands parse arguments without torch and end mistakes in one line."""

import errno
import io
import json
import resource
import runpy
import subprocess
import sys
from zipfile import ZipFile

import cv2
import export_models
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from paths import ROOT

from mobileone_mm.commands.ablation import VARIANTS
from mobileone_mm.commands.demo import TASKS
from mobileone_mm.commands.main import describe, main
from mobileone_mm.datasets.custom_coco import BASES
from mobileone_mm.datasets.drawn.layouts import LAYOUTS
from mobileone_mm.datasets.prepare import DATASETS
from mobileone_mm.export import FORMATS
from mobileone_mm.export.formats import FORMS
from mobileone_mm.export.int8.quantizers import QUANTIZERS
from mobileone_mm.utils.errors import PreflightError

TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('*.py') if path.stem != 'command_line')
SHAPES = ROOT / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


@pytest.mark.parametrize('tool', TOOLS)
def test_help_takes_less_than_half_a_second(tool):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, ROOT / 'tools' / f'{tool}.py', '--help'],
                          capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and 'usage: ' in done.stdout and '--debug' in done.stdout
    assert not done.stderr
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < .5


def test_choices_of_tools_equal_those_of_the_package():
    """Their parsers repeat choices from modules that import torch."""
    def of(tool, name):
        return runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'))[name]

    assert of('ablation', 'VARIANTS') == {name: v.about for name, v in VARIANTS.items()}
    for tool, name, known in (
            ('custom_coco', 'BASES', BASES), ('demo', 'TASKS', TASKS),
            ('deploy', 'BACKENDS', FORMATS), ('deploy', 'FORMS', FORMS),
            ('make_shapes', 'LAYOUTS', LAYOUTS), ('prepare_data', 'DATASETS', DATASETS),
            ('quantize', 'BACKENDS', QUANTIZERS)):
        assert of(tool, name) == tuple(known)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A trained detector, pictures, and bad files."""
    pytest.importorskip('mmdet')
    folder = tmp_path_factory.mktemp('files')
    export_models.write_trained(folder)
    (folder / 'syntax.py').write_text('model = dict(\n')
    (folder / 'base.py').write_text("_base_ = 'syntax.py'\n")
    (folder / 'name.py').write_text('model = x\n')
    (folder / 'nothing.py').touch()
    (folder / 'variant.py').write_text(f"_base_ = {str(SHAPES)!r}\n"
                                       "model = dict(backbone=dict(arch='s9'))\n")
    (folder / 'unregistered.py').write_text(f"_base_ = {str(SHAPES)!r}\n"
                                            "model = dict(backbone=dict(type='MobileTwo'))\n")
    (folder / 'empty.jpg').touch()
    (folder / 'file').touch()
    (folder / 'wide.jpg').write_bytes(cv2.imencode('.jpg', np.zeros((8, 900, 3)))[1].tobytes())
    nan = torch.load(folder / 'detection.pth', weights_only=True)
    next(v for v in nan['state_dict'].values() if v.is_floating_point())[:] = float('nan')
    torch.save(nan, folder / 'nan.pth')
    with ZipFile(folder / 'ADEChallengeData2016.zip', 'w') as archive:
        archive.writestr('ADEChallengeData2016/images/training/a.jpg', 'x')
    data = (folder / 'ADEChallengeData2016.zip').read_bytes()
    (folder / 'ADEChallengeData2016.zip').write_bytes(  # encrypted, by its flags
        data[:6] + b'\1' + data[7:].replace(b'PK\1\2\x14\3\x14\0\0', b'PK\1\2\x14\3\x14\0\1'))
    return folder


MISTAKES = [
    ('train', ['{f}/syntax.py'], 'syntax.py, line 1'),
    ('train', ['{f}/base.py'], 'syntax.py, line 1'),
    ('train', ['{f}/name.py'], "name.py: NameError: name 'x' is not defined"),
    ('train', ['{f}/none.py'], 'none.py'),
    ('train', [SHAPES, '--cfg-options', 'optim_wraper.optimizer.lr=1'], "'optim_wrapper'"),
    ('train', [SHAPES, '--cfg-options', 'input_size=192'], 'variable of the config file'),
    ('train', [SHAPES, '--cfg-options', 'train_cfg.max_epochs=0'], 'max_epochs=0'),
    ('train', [SHAPES, '--cfg-options', 'load_from'], 'expected KEY=VALUE'),
    ('train', ['{f}/detection.py', '--cfg-options', 'data_root=/nowhere'], '/nowhere'),
    ('train', [SHAPES, '--launcher', 'pytorch'], 'torchrun'),
    ('test', ['{f}/detection.py', '{f}/none.pth'], 'none.pth'),
    ('reparameterize', ['{f}/nothing.py', 'x.pth', '{t}/y.pth'], 'nothing.py has no model'),
    ('reparameterize', ['{f}/variant.py', 'x.pth', '{t}/y.pth'], "'s9'"),
    ('reparameterize', ['{f}/unregistered.py', 'x.pth', '{t}/y.pth'], 'MobileTwo'),
    ('reparameterize', ['{f}/detection.py', '{f}/detection.pth', '/proc/none/y.pth'], '/proc/none'),
    ('reparameterize', ['{f}/detection.py', '{f}/detection.pth', '{f}/file/y.pth'], 'file'),
    ('reparameterize', ['{f}/detection.py', '{f}/nan.pth', '{t}/y.pth'], 'the weights are NaN'),
    ('reparameterize', ['{f}/detection.py', '{f}/syntax.py', '{t}/y.pth'], 'not a checkpoint'),
    ('predict', ['{f}/detection.pth', '{f}/pictures', '--out', '{f}/file'],
     'is a file: expected a folder'),
    ('predict', ['{f}/detection.pth', '{f}/empty.jpg', '--out', '{t}'], 'empty.jpg'),
    ('predict', ['{f}/nan.pth', '{f}/pictures', '--out', '{t}', '--config', '{f}/detection.py'],
     'weights are NaN'),
    ('predict', ['{f}/detection.pth', '{f}/pictures', '--out', '{t}', '--device', 'cuda:77'],
     '--device cuda:77: cannot be used here'),
    ('predict', ['{f}/detection.pth', '{f}/pictures', '--out', '{t}', '--device', 'gpu'],
     '--device gpu: cannot be used here'),
    ('bn_statistics', ['{f}/detection.py', '{f}/nan.pth', '--device', 'cuda:77'], 'cuda:77'),
    ('deploy', ['{f}/detection.py', '{f}/detection.pth', '--backend', 'onnx', '--image',
                '{f}/empty.jpg', '--out', '{t}'], 'onnx|empty.jpg'),
    ('quantize', ['{f}/syntax.py', '{f}/detection.pth', '--backend', 'onnx', '--out', '{t}'],
     'syntax.py|onnx'),
    ('plot_schedule', [SHAPES, '--iters-per-epoch', '2', '--out', '/proc/none/x.png'],
     '/proc/none'),
    ('plot_schedule', ['{f}/file'], 'is not a config'),
    ('ablation', [SHAPES, '--variants', 'k9', '--out', '{t}', '--cfg-options',
                  'data_root={f}'], 'k9|do not exist'),
    ('custom_coco', ['--train', '{f}/none.json', '--val', '{f}/none.json', '--images', '{f}',
                     '--out', '{t}/x.py'], 'none.json'),
    ('make_shapes', ['--out', '{f}/file', '--num-train', '2', '--num-val', '1'], 'file'),
    ('prepare_data', ['ade20k', '--data-root', '{f}'], 'is encrypted'),
    ('demo', ['--work-dir', '{f}/file'], 'file'),
]


@pytest.mark.parametrize('tool, arguments, message', MISTAKES)
def test_mistakes_end_in_one_line(tool, arguments, message, files, tmp_path, run_tool, capfd,
                                       monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mobileone_mm.commands.demo.make_shapes', lambda *args: None)
    before = {path: path.read_bytes() for path in files.rglob('*') if path.is_file()}
    assert run_tool(tool, *(str(a).format(f=files, t=tmp_path) for a in arguments)) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if 'Warning' not in line]
    told = [line for line in lines if line.startswith('error: ')]
    assert len(told) == 1 and len(told[0]) < 1000
    assert any(part in '\n'.join(lines) for part in message.split('|')), lines
    assert not any('Traceback' in line for line in lines)
    assert before == {path: path.read_bytes() for path in files.rglob('*') if path.is_file()}


def test_debug_shows_the_traceback(files, run_tool, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train.py', str(files / 'syntax.py'), '--debug'])
    with pytest.raises(PreflightError, match='syntax.py, line 1'):
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')


def _fail(error):
    def command(_):
        raise error
    return command


def test_unexpected_errors_are_marked_and_logged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(MMLogger, '_instance_dict', type(MMLogger._instance_dict)())
    assert main(_fail(AttributeError("'x' has no y"))) == 1
    assert capsys.readouterr().err == \
        "error: 'x' has no y (AttributeError; traceback: --debug)\n"
    log = tmp_path / 'run.log'
    MMLogger._instance_dict['run'] = MMLogger('run', log_file=str(log))
    assert main(_fail(AttributeError("'x' has no y"))) == 1
    assert f'traceback: {log})' in capsys.readouterr().err
    assert 'Traceback' in log.read_text() and "AttributeError: 'x' has no y" in log.read_text()


def test_what_the_package_refuses_is_not_marked(capsys):
    def build(_):
        return MODELS.build(dict(type='MobileOne', arch='s9'))

    assert main(build) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: unknown MobileOne arch 's9'") and 'traceback' not in told
    assert main(lambda _: int('x')) == 1  # a ValueError, but without a message
    assert 'traceback: ' in capsys.readouterr().err


def test_status_and_marks(capsys):
    assert main(lambda _: None) == 0 and main(lambda _: 3) == 3 and main(lambda _: dict(a=1)) == 0
    assert main(_fail(PreflightError('two\nlines'))) == 1
    assert capsys.readouterr().err == 'error: two\nlines\n'
    assert main(_fail(ValueError('x')), ValueError) == 1
    assert capsys.readouterr().err == 'error: x\n'
    assert main(_fail(KeyboardInterrupt())) == 130
    with pytest.raises(ValueError, match='x'):
        main(_fail(ValueError('x')), debug=True)


def test_a_console_that_lacks_a_character(monkeypatch):
    """As Windows' in many countries, where a program's output is redirected."""
    console = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', console)
    assert main(lambda _: print('猫 \ud800')) == 0
    console.flush()
    assert console.buffer.getvalue() == b'\\u732b \\ud800\n'


@pytest.mark.parametrize('error, text', [
    (OSError(errno.ENOSPC, 'x', '/a/b.pth'), '/a/b.pth: no space is left on the disk'),
    (OSError(errno.ENOSPC, 'x'), 'no space is left on the disk'),
    (OSError(errno.EROFS, 'x', '/a'), '/a: is on a read-only file system'),
    (FileExistsError(errno.EEXIST, 'x', '/a'), '/a: exists and is not a folder'),
    (RuntimeError('[enforce fail at x.cc:1] . PytorchStreamWriter failed writing file data/1: file'
                  ' write failed'), 'a checkpoint could not be written: is the disk full?'),
    (RuntimeError('[enforce fail at inline_container.cc:672] . unexpected pos 76352 vs 76240'),
     'a checkpoint could not be written: is the disk full?'),
    (KeyError('Index 9 exceeds'), 'Index 9 exceeds'),
    (ValueError('class `A` in a/b.py: class `B` in b.py: arch is wrong'), 'arch is wrong'),
    (ValueError('Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent'
                ' call last):\n  File "x.py", line 1\nValueError: a.jpg is broken\n'),
     'a.jpg is broken'),
    (RuntimeError('\n'.join(['line'] * 500)), None), (AssertionError(), 'AssertionError')])
def test_descriptions(error, text):
    told = describe(error)
    assert told == text or text is None and len(told) < 410 and '\n' not in told


def test_json_errors_name_the_line(tmp_path):
    with pytest.raises(json.JSONDecodeError) as error:
        json.loads('{')
    assert 'line 1' in describe(error.value)
