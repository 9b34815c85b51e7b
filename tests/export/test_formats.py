"""The table of backends, and checks of their options before any work."""

import configparser
import importlib.util

import pytest

from mobileone_mm.export import FORMATS, ExportError, MissingPackageError, check_options, require


@pytest.mark.parametrize('arguments, message', [
    (('tflite', ), 'choose one of onnx, openvino'),
    (('ncnn', ['batch']), 'fixed batch; choose one of onnx'),
    (('onnx', ['depth']), 'expected batch or size'),
    (('litert', ['size']), 'litert needs a fixed size'),
    (('litert', [], True), 'litert does not support float16; choose one of onnx'),
    (('litert', [], False, 'react-native'),
     "does not support the form 'react-native'; choose from executorch"),
    (('executorch', [], False, 'ios'), "executorch does not support the form 'ios'"),
])
def test_unsupported_options_are_refused(arguments, message):
    with pytest.raises(ExportError, match=message):
        check_options(*arguments)


def test_supported_options_pass():
    assert check_options('onnx', ['batch', 'size'], half=True) is FORMATS['onnx']


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr('mobileone_mm.export.formats.find_spec', lambda name: None)
    with pytest.raises(MissingPackageError, match=r'needs ncnn, pnnx: pip install .*\[ncnn\]'):
        require(FORMATS['ncnn'])
    with pytest.raises(MissingPackageError, match=r'litert_torch.*\[litert\].*make env-litert'):
        require(FORMATS['litert'])
    with pytest.raises(MissingPackageError, match=r'\[mmdeploy\].*--no-deps mmdeploy==1.3.1'):
        require(FORMATS['onnxruntime'])


def test_nothing_is_missing_where_it_is_installed(monkeypatch):
    monkeypatch.setattr('mobileone_mm.export.formats.find_spec',
                        lambda name: importlib.util.find_spec('json'))
    for backend in FORMATS.values():
        require(backend)


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr('sys.version_info', (3, 9, 18))
    with pytest.raises(MissingPackageError, match='executorch needs Python 3.10 or later'):
        require(FORMATS['executorch'])


def test_every_extra_is_declared(pytestconfig):
    parser = configparser.ConfigParser(interpolation=configparser.BasicInterpolation())
    parser.read(pytestconfig.rootpath / 'setup.cfg')
    extras = parser['options.extras_require']
    for backend in FORMATS.values():
        packages = {package.replace('_', '-') for package in backend.packages} - {'mmdeploy'}
        assert packages <= set(extras[backend.extra].replace(';', ' ').split())
        if not backend.place:
            assert set(extras[backend.extra].split('\n')) <= set(extras['deploy'].split('\n'))
