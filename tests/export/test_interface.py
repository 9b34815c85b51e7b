"""The JSON file beside an exported model, which may come from anywhere."""

import json

import pytest

from mobileone_mm.export import ExportError
from mobileone_mm.export.interface import Interface

GOOD = dict(backend='onnx', task='detection', normalized=False, shape=[1, 3, 32, 32], dynamic=[],
            half=False, outputs=['boxes', 'scores', 'labels'], classes=['a'], decode={})


def test_what_an_export_writes_is_read(tmp_path):
    interface = Interface(**{**GOOD, 'shape': (1, 3, 32, 32)})
    interface.write(tmp_path / 'x.onnx')
    assert Interface.read(tmp_path / 'x.onnx') == interface


@pytest.mark.parametrize('change', [
    dict(backend='os'), dict(backend='..commands.demo'), dict(backend=[]), dict(task='x'),
    dict(shape=[1, 3]), dict(shape='abcd'), dict(shape=5), dict(dynamic='batch'), dict(classes=[1]),
    dict(outputs={}), dict(decode=[]), dict(more=1)])
def test_anything_else_is_refused(change, tmp_path):
    (tmp_path / 'x.json').write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ExportError, match='does not describe an exported model'):
        Interface.read(tmp_path / 'x.onnx')


@pytest.mark.parametrize('text', ['', '[', '[]', 'null', '{}', '[' * 100_000])
def test_what_is_no_json_of_ours(text, tmp_path):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ExportError, match='does not describe an exported model'):
        Interface.read(tmp_path / 'x.onnx')
