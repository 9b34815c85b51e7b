"""Written configs read back as equal configs, whoever writes them."""

import pytest
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend

from mobileone_mm.utils.configs import read_config
from mobileone_mm.utils.errors import PreflightError

NAMES = ('{{ fileBasename }}', "{{$X:'+str(1)+'}}", '"""', 'a\'b"c\\', '{{ _base_.x }}',
         '{{$NO_SUCH:x"y}}', 'C:\\Users\\x', 'eins\nzwei', '{{{', '%s', "'); import os  #")


def test_names_of_classes_neither_break_out_nor_are_expanded(tmp_path):
    cfg = Config(dict(metainfo=dict(classes=NAMES), more={'a': {'b': {}}}, one=[{'c': 1}]))
    cfg.dump(tmp_path / 'dumped.py')  # as the Runner does
    LocalVisBackend(str(tmp_path / 'logged')).add_config(cfg)
    for path in (tmp_path / 'dumped.py', tmp_path / 'logged/config.py'):
        assert Config.fromfile(path).to_dict() == cfg.to_dict()
    # of a checkpoint's meta
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()
    assert r'{\x7b fileBasename' in cfg.pretty_text


@pytest.mark.parametrize('top', ['', "data_root = 'data/coco/'\n"])
def test_a_data_root_that_moves_nothing_is_refused(tmp_path, top):
    """As in what tools/custom_coco.py writes: absolute paths, and a base with a root of its own."""
    path = tmp_path / 'x.py'
    path.write_text(f"{top}train_dataloader = dict(dataset=dict(ann_file='/a/b.json'))\n")
    with pytest.raises(PreflightError, match='data_root=/new: no path of the config lies below'):
        read_config(path, ['data_root=/new'])
