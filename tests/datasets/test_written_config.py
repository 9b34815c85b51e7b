"""Names and paths come out of a written config as they went in, and never run."""

import builtins

import pytest
from mmengine.config import Config

from mobileone_mm.datasets.written_config import fill, literal

NASTY = [
    '"""\nimport builtins; builtins.broken_out = True\n"""', "'''", "it's", 'a"b', '\\', '\\N',
    '\\u', 'C:\\Users\\new', '{{ fileDirname }}', '{{fileBasename}}', '{{ _base_.model }}',
    '{{{{ x }}}}', "{{$HOME:'+broken_out()+'}}", '{{"$X:\\"}}', '{0}', '{train}', '%s',
    'line\nbreak', '\r', '\u2028', 'naïve 猫', '\udcff', '', ' ', '#', '\x00',
]


@pytest.mark.parametrize('name', NASTY)
def test_names_come_back_unchanged(tmp_path, name):
    path = tmp_path / 'config.py'
    text = fill('classes = {classes}\nnested = dict(path={path})\n', classes=(name, ), path=[name])
    path.write_text(text, encoding='utf-8')
    try:
        cfg = Config.fromfile(path)
        assert not hasattr(builtins, 'broken_out')
    finally:
        vars(builtins).pop('broken_out', None)
    assert cfg.classes == (name, ) and cfg.nested.path == [name]


def test_other_values(tmp_path):
    value = dict(a=[1, 2.5, None, True], b=(), c=dict({'d e': (tmp_path, )}), f={})
    read = eval(literal(value))  # the literal of the line above, nothing else
    assert read == dict(a=[1, 2.5, None, True], b=(), c={'d e': (str(tmp_path), )}, f={})


@pytest.mark.parametrize('value', [float('nan'), float('inf'), object(), {1, 2}, b'bytes'])
def test_what_has_no_literal_is_refused(value):
    with pytest.raises(TypeError, match='has no literal'):
        literal([value])
