"""Damaged and made-up files end in a result or in one of our errors.

`make test` tries a few dozen of each kind, always the same; `make fuzz` tries new ones for longer.
"""

import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from payload import Payload

pytest.importorskip('hypothesis', reason='hypothesis is not installed (extra: dev)')
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mobileone_mm.datasets.custom_coco import read_split  # noqa: E402
from mobileone_mm.datasets.preflight import check_data  # noqa: E402
from mobileone_mm.datasets.prepare.archives import Archive, ArchiveError, unpack  # noqa: E402
from mobileone_mm.utils.checkpoint_files import (  # noqa: E402
    CheckpointError,
    read_checkpoint,
    unwrap,
)
from mobileone_mm.utils.errors import PreflightError  # noqa: E402

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', 0))
fuzz = settings(max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, deadline=None,
                database=None, suppress_health_check=list(HealthCheck))


@st.composite
def damaged(draw, originals):
    """A byte string with bytes changed, removed, repeated or truncated."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 8))
        change = draw(st.sampled_from(['set', 'cut', 'repeat', 'end']))
        if change == 'set':
            data[start:start + length] = draw(st.binary(min_size=length, max_size=length))
        elif change == 'cut':
            del data[start:start + length]
        elif change == 'repeat':
            data[start:start] = data[start:start + length]
        else:
            del data[start:]
    return bytes(data)


class Places:
    """A work folder, with a check that nothing appears outside of it."""

    def __enter__(self):
        self._top = tempfile.TemporaryDirectory()
        self.root = Path(self._top.name, 'a', 'root')
        self.root.mkdir(parents=True)
        self.ran = Path(self._top.name, 'ran')
        return self

    def __exit__(self, *error):
        outside = [path for path in Path(self._top.name).rglob('*')
                   if self.root not in path.parents and path not in (self.root, self.root.parent)]
        self._top.cleanup()
        assert not outside


def saved(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


CONTENT = dict(state_dict={'a': torch.ones(2), 'module.b': torch.zeros(1, dtype=torch.int64)},
               log=HistoryBuffer([1.], [1]), scalar=np.float64(2.))
LEGACY = [saved(CONTENT, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
          for protocol in (2, 4)]
PICKLES = [pickle.dumps(value, protocol=protocol) for protocol in (0, 2, 4) for value in (
    dict(a=1), np.arange(3.), HistoryBuffer([1.], [1]), Payload(Path('ran')), [{'b': (None, 1.5)}])]


def read(data, places):
    path = places.root / 'x.pth'
    path.write_bytes(data)
    here = Path.cwd()
    os.chdir(places.root.parent)
    try:
        unwrap(read_checkpoint(path))
    except CheckpointError as error:
        assert '\n' not in str(error)
    finally:
        os.chdir(here)


@fuzz
@given(damaged([*LEGACY, saved(CONTENT), saved(CONTENT, pickle_protocol=4)]))
def test_damaged_checkpoints(data):
    with Places() as places:
        read(data, places)


@fuzz
@given(damaged(PICKLES))
def test_made_up_pickles_in_a_whole_zip(data):
    """Otherwise the checksums of the zip would catch all damage."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(CONTENT))) as source, \
            zipfile.ZipFile(stream, 'w') as target:
        for name in source.namelist():
            target.writestr(name, data if name.endswith('data.pkl') else source.read(name))
    with Places() as places:
        read(stream.getvalue(), places)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['id', 'name', 'file_name', 'bbox', 'area', 'image_id', 'category_id',
                         'iscrowd', 'width', 'height']), inner, max_size=6), max_leaves=12)
COCO = dict(
    images=[dict(id=1, file_name='a.jpg', width=8, height=8)],
    categories=[dict(id=1, name='x'), dict(id=2, name='y')],
    annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4], area=16, iscrowd=0)])


@st.composite
def annotations(draw):
    """COCO annotations with one value, or a whole list, replaced."""
    content = json.loads(json.dumps(COCO))
    part = draw(st.sampled_from(list(COCO)))
    if draw(st.booleans()):
        content[part] = draw(json_values)
    else:
        entry = content[part][0]
        entry[draw(st.sampled_from(list(entry)))] = draw(json_values)
    return json.dumps(content).encode()


@fuzz
@given(annotations() | damaged([json.dumps(COCO).encode()]))
def test_annotation_files(data):
    with Places() as places:
        cv2.imwrite(str(places.root / 'a.jpg'), np.zeros((8, 8, 3), np.uint8))
        (places.root / 'x.json').write_bytes(data)
        try:
            read_split(places.root / 'x.json', places.root)
        except PreflightError:
            pass


def png(shape, dtype):
    return cv2.imencode('.png', np.arange(np.prod(shape)).reshape(shape).astype(dtype))[1].tobytes()


@fuzz
@given(damaged([png((6, 6), np.uint8), png((6, 6), np.uint16), png((6, 6, 3), np.uint8)]))
def test_label_maps(data):
    pytest.importorskip('mmseg')
    with Places() as places:
        for name, content in (('img/a.jpg', png((6, 6, 3), np.uint8)), ('maps/a.png', data)):
            (places.root / name).parent.mkdir()
            (places.root / name).write_bytes(content)
        cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=dict(
            type='BaseSegDataset', data_root=str(places.root), img_suffix='.jpg',
            seg_map_suffix='.png', metainfo=dict(classes=('a', 'b'), palette=[[0] * 3] * 2),
            data_prefix=dict(img_path='img', seg_map_path='maps')))))
        try:
            check_data(cfg, ('train', ))
        except PreflightError:
            pass


names = st.one_of(
    st.sampled_from(['top/a.txt', 'top/b.txt', 'top', 'top/', 'top/a.txt/b', '../ran', '/ran',
                     'top/../../ran', 'top/..\\ran', 'top/' + 'x' * 300, 'top/./a.txt', '']),
    st.text(max_size=6).map(lambda text: f'top/{text}'))


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in members:
            archive.writestr(name, b'content ' * 8)
    return stream.getvalue()


def tarred(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w:gz') as archive:
        for i, name in enumerate(members):
            info = tarfile.TarInfo(name)
            if i % 3 == 2:
                info.type, info.linkname = tarfile.SYMTYPE, '../../..'
            else:
                info.size = 8
            archive.addfile(info, io.BytesIO(b'content.'))
    return stream.getvalue()


@fuzz
@given(st.data(), st.sampled_from([('a.zip', zipped), ('a.tgz', tarred)]))
def test_archives(data, kind):
    name, pack = kind
    members = data.draw(st.lists(names, min_size=1, max_size=5))
    try:
        whole = pack(members)
    except (IndexError, OverflowError, ValueError):  # refused by the packers themselves
        return
    with Places() as places:
        (places.root / name).write_bytes(data.draw(damaged([whole])))
        try:
            unpack(Archive(name, 'http://example.org', 'top', 'target', {'a.txt': 1}), places.root)
        except ArchiveError as error:
            assert str(places.root) in str(error)
