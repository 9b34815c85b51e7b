"""Written configs read back as equal configs."""

from mmengine.config import Config

from mobileone_mm.utils.configs import config_text

NAMES = ('{{ fileBasename }}', "{{$X:'+str(1)+'}}", '"""', 'a\'b"c\\', '{{ _base_.x }}',
         '{{$NO_SUCH:x"y}}', 'C:\\Users\\x', 'eins\nzwei', '{{{', '%s', "'); import os  #")


def test_names_of_classes_neither_break_out_nor_are_expanded(tmp_path):
    cfg = Config(dict(metainfo=dict(classes=NAMES), more={'a': {'b': {}}}, one=[{'c': 1}]))
    (tmp_path / 'x.py').write_text(config_text(cfg), encoding='utf-8')
    read = Config.fromfile(tmp_path / 'x.py')
    assert read.to_dict() == cfg.to_dict()
    (tmp_path / 'y.py').write_text(cfg.pretty_text, encoding='utf-8')
    assert Config.fromfile(tmp_path / 'y.py').metainfo.classes != NAMES  # as mmengine writes it
