"""Tiny archives with the published structure are unpacked, converted, counted and resumed."""

import errno
import hashlib
import io
import runpy
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from mobileone_mm.datasets.prepare import DATASETS, Archive, ArchiveError, DatasetSpec, prepare
from mobileone_mm.datasets.prepare.voc_aug import convert_sbd, read_sbd_labels

TOOL = ROOT / 'tools' / 'prepare_data.py'
PALETTE = [7, 8, 9] + [0] * 765


def write_zip(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, 'w') as file:
        for name in names:
            file.writestr(name, f'content of {name}')


def write_tar(path, members, mode='w'):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def png(labels):
    image = Image.fromarray(np.uint8(labels))
    image.putpalette(PALETTE)
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()


def sbd_mat(labels):
    """A .mat file of SBD's structure: GTcls.Segmentation, .Boundaries and .CategoriesPresent."""
    savemat = pytest.importorskip('scipy.io').savemat
    stream = io.BytesIO()
    savemat(stream, {'GTcls': {'Segmentation': np.uint8(labels), 'Boundaries': np.zeros((20, 1)),
                               'CategoriesPresent': np.unique(labels)}})
    return stream.getvalue()


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.fixture
def zipped():
    """A data set of one zip archive that must hold two images."""
    return DatasetSpec((Archive('a.zip', 'http://example.org/a.zip', 'top', 'a/b',
                                {'images/*.jpg': 2}), ))


def test_published_numbers():
    def number(name, pattern):
        spec = DATASETS[name]
        counts = [spec.converted, *(archive.counts for archive in spec.archives)]
        return [c[p] for c in counts for p in c if p.endswith(pattern)]

    assert number('coco', '*.jpg') == [118287, 5000]
    assert number('ade20k', 'training/*.jpg') == [20210]
    assert number('ade20k', 'validation/*.jpg') == [2000]
    assert number('voc12aug', '2012/ImageSets/Segmentation/trainaug.txt') == [10582]
    assert number('voc12aug', 'Segmentation/train.txt') == [1464]
    assert number('voc12aug', 'Segmentation/val.txt') == [1449]


def test_missing_files_are_reported_and_nothing_is_written(tmp_path, zipped):
    lines = []
    assert not prepare('a', tmp_path / 'data', say=lines.append, spec=zipped)
    assert 'MISSING' in lines[0] and 'http://example.org/a.zip' in lines[0]
    assert str(tmp_path / 'data/downloads/a.zip') in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('place', ['downloads/a.zip', 'a.zip'])
def test_zip_is_unpacked_once(tmp_path, zipped, place):
    write_zip(tmp_path / place, ['top/images/1.jpg', 'top/images/2.jpg', '__MACOSX/x'])
    lines = []
    assert not prepare('a', tmp_path, check_only=True, say=lines.append, spec=zipped)
    assert 'NOT UNPACKED' in lines.pop()
    assert not (tmp_path / 'a').exists()

    assert prepare('a', tmp_path, say=lines.append, spec=zipped)
    assert tree(tmp_path / 'a') == {f'b/images/{i}.jpg': f'content of top/images/{i}.jpg'.encode()
                                    for i in (1, 2)}
    (tmp_path / place).unlink()
    for check_only in (True, False):
        assert prepare('a', tmp_path, check_only=check_only, say=lines.append, spec=zipped)
        assert 'ready' in lines[-1]


def test_incomplete_folder_is_reported_and_left_alone(tmp_path, zipped):
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg', 'top/images/2.jpg'])
    (tmp_path / 'a/b/images').mkdir(parents=True)
    (tmp_path / 'a/b/images/1.jpg').write_text('mine')
    lines = []
    assert not prepare('a', tmp_path, say=lines.append, spec=zipped)
    assert 'images/*.jpg: 1 instead of 2' in lines[0] and 'move it away' in lines[0]
    assert tree(tmp_path / 'a') == {'b/images/1.jpg': b'mine'}


def test_archive_with_too_little_is_refused(tmp_path, zipped):
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg'])
    with pytest.raises(ArchiveError, match='1 instead of 2'):
        prepare('a', tmp_path, say=print, spec=zipped)
    assert not (tmp_path / 'a/b').exists()


@pytest.mark.parametrize('name', ['../evil.jpg', 'top/../../evil.jpg', '/tmp/evil.jpg',
                                  'top\\..\\evil.jpg', 'C:/evil.jpg'])
@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_members_that_point_outside_are_refused(tmp_path, zipped, name, kind):
    spec = DatasetSpec((replace(zipped.archives[0], name=f'a.{kind}'), ))
    root = tmp_path / 'root'
    if kind == 'zip':
        write_zip(root / 'a.zip', ['top/images/1.jpg', name, 'top/images/2.jpg'])
    else:
        write_tar(root / 'a.tar', {'top/images/1.jpg': b'1', name: b'!', 'top/images/2.jpg': b'2'})
    before = set(Path('/tmp').glob('evil*'))
    with pytest.raises(ArchiveError, match='points outside'):
        prepare('a', root, spec=spec)
    assert not list(tmp_path.rglob('*evil*')) and set(Path('/tmp').glob('evil*')) == before
    assert not (root / 'a/b').exists()


@pytest.mark.parametrize('suffix, mode', [('.zip', None), ('.tar', 'w'), ('.tgz', 'w:gz')])
def test_truncated_archive_then_resume(tmp_path, zipped, suffix, mode, monkeypatch):
    """Half a download is refused; the complete one then unpacks only what is missing."""
    from mobileone_mm.datasets.prepare import archives
    content = {f'top/images/{i}.jpg': np.random.RandomState(i).bytes(20_000) for i in (1, 2)}
    path = tmp_path / f'a{suffix}'
    if suffix == '.zip':
        with ZipFile(path, 'w') as file:
            for name, data in content.items():
                file.writestr(name, data)
    else:
        write_tar(path, content, mode)
    spec = DatasetSpec((replace(zipped.archives[0], name=path.name), ))
    whole = path.read_bytes()
    path.write_bytes(whole[:30_000])
    with pytest.raises(ArchiveError, match='damaged or incomplete'):
        prepare('a', tmp_path, spec=spec)
    assert not (tmp_path / 'a/b').exists()

    partial = tmp_path / 'a/b.partial/images'
    partial.mkdir(parents=True, exist_ok=True)  # a truncated zip cannot even be listed
    (partial / '1.jpg').write_bytes(content['top/images/1.jpg'])
    (partial / '2.jpg').write_bytes(b'short')
    path.write_bytes(whole)
    written = []
    replace_file = archives.os.replace
    monkeypatch.setattr(archives.os, 'replace',
                        lambda a, b: (written.append(Path(b).name), replace_file(a, b)))
    assert prepare('a', tmp_path, spec=spec)
    assert written == ['2.jpg']
    assert tree(tmp_path / 'a') == {name.replace('top', 'b'): data
                                    for name, data in content.items()}


def test_a_damaged_tar_is_refused_before_anything_is_written(tmp_path, zipped):
    """A tar has no checksums, and tarfile does not reach gzip's: only an MD5 sum finds damage."""
    path = tmp_path / 'a.tgz'
    write_tar(path, {f'top/images/{i}.jpg': np.random.RandomState(i).bytes(20_000) for i in (1, 2)},
              'w:gz')
    whole = path.read_bytes()
    archive = replace(zipped.archives[0], name='a.tgz', md5=hashlib.md5(whole).hexdigest())
    path.write_bytes(whole[:20_000] + bytes([whole[20_000] ^ 1]) + whole[20_001:])
    with pytest.raises(ArchiveError, match='damaged, incomplete or another file: its MD5 sum'):
        prepare('a', tmp_path, spec=DatasetSpec((archive, )))
    assert list(tmp_path.iterdir()) == [path]
    assert prepare('a', tmp_path, spec=DatasetSpec((replace(archive, md5=None), )))  # so it passes
    (tmp_path / 'a').rename(tmp_path / 'damaged')
    path.write_bytes(whole)
    assert prepare('a', tmp_path, spec=DatasetSpec((archive, )))


def test_damaged_member_is_not_kept(tmp_path, zipped):
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg', 'top/images/2.jpg'])
    data = (tmp_path / 'a.zip').read_bytes()
    (tmp_path / 'a.zip').write_bytes(data.replace(b'content of top/images/2', b'CONTENT', 1)
                                     .replace(b'CONTENT', b'CONTENT of top/images/2', 1))
    with pytest.raises(ArchiveError, match='CRC'):
        prepare('a', tmp_path, spec=zipped)
    assert not list(tmp_path.rglob('2.jpg'))


def edit_zip(path, offset, value):
    """Change two bytes of each member's entry, in its local header and in the directory."""
    data = bytearray(path.read_bytes())
    for start, at in ((b'PK\x03\x04', offset), (b'PK\x01\x02', offset + 2)):
        found = data.find(start)
        while found >= 0:
            data[found + at:found + at + 2] = value.to_bytes(2, 'little')
            found = data.find(start, found + 4)
    path.write_bytes(data)


@pytest.mark.parametrize('offset, value, message', [
    (6, 1, 'a.zip is encrypted'), (8, 99, 'a.zip cannot be unpacked here'),
    (8, 12, 'a.zip is damaged')])
def test_encrypted_members_and_unknown_methods(tmp_path, zipped, offset, value, message):
    """12 is bzip2, which no member uses."""
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg', 'top/images/2.jpg'])
    edit_zip(tmp_path / 'a.zip', offset, value)
    with pytest.raises(ArchiveError, match=message):
        prepare('a', tmp_path, spec=zipped)
    assert not list(tmp_path.rglob('*.jpg'))


def test_a_file_that_is_not_gzip(tmp_path, zipped):
    write_tar(tmp_path / 'a.tgz', {'top/images/1.jpg': bytes(50_000)}, 'w:gz')
    data = bytearray((tmp_path / 'a.tgz').read_bytes())
    data[12:40] = bytes(28)
    (tmp_path / 'a.tgz').write_bytes(data)
    with pytest.raises(ArchiveError, match='a.tgz is damaged or incomplete'):
        prepare('a', tmp_path, spec=DatasetSpec((replace(zipped.archives[0], name='a.tgz'), )))


def test_overlong_names_and_names_that_are_folders(tmp_path, zipped):
    write_zip(tmp_path / 'a.zip', [f'top/images/{"x" * 300}.jpg'])
    with pytest.raises(ArchiveError, match='too long a name'):
        prepare('a', tmp_path, spec=zipped)
    write_zip(tmp_path / 'a.zip', ['top/images', 'top/images/1.jpg'])
    with pytest.raises(ArchiveError, match='could not be unpacked'):
        prepare('a', tmp_path, spec=zipped)


def test_a_full_disk_is_reported(tmp_path, zipped, monkeypatch):
    from mobileone_mm.datasets.prepare import archives
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg', 'top/images/2.jpg'])

    def full(source, target):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(archives.shutil, 'copyfileobj', full)
    with pytest.raises(ArchiveError, match='No space left on device'):
        prepare('a', tmp_path, spec=zipped)


def test_links_are_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as file:
        link = tarfile.TarInfo('top/images')
        link.type, link.linkname = tarfile.SYMTYPE, '/tmp'
        file.addfile(link)
        file.addfile(tarfile.TarInfo('top/images/1.jpg'))
    spec = DatasetSpec((Archive('a.tar', '', 'top', 'a', {'images/*.jpg': 1}), ))
    assert prepare('a', tmp_path, spec=spec)
    assert not (tmp_path / 'a/images').is_symlink()


def test_too_little_space_is_reported_first(tmp_path, zipped, monkeypatch):
    from mobileone_mm.datasets.prepare import archives
    write_zip(tmp_path / 'a.zip', ['top/images/1.jpg', 'top/images/2.jpg'])
    monkeypatch.setattr(archives.shutil, 'disk_usage',
                        lambda path: type('Usage', (), {'free': 10}))
    with pytest.raises(ArchiveError, match='10 are free'):
        prepare('a', tmp_path, spec=zipped)
    assert not (tmp_path / 'a').exists()


@pytest.fixture
def voc(tmp_path):
    """VOC (train a, b; val c) and SBD (a, c, d, e), and a spec for that small a set."""
    lists = 'VOCdevkit/VOC2012/ImageSets/Segmentation/'
    write_tar(tmp_path / 'VOCtrainval_11-May-2012.tar', {
        **{f'VOCdevkit/VOC2012/JPEGImages/{n}.jpg': b'jpg' for n in 'abcde'},
        **{f'VOCdevkit/VOC2012/SegmentationClass/{n}.png': png([[1, 0]]) for n in 'abc'},
        f'{lists}train.txt': b'a\nb\n', f'{lists}val.txt': b'c\n'})
    write_tar(tmp_path / 'benchmark.tgz', {
        **{f'benchmark_RELEASE/dataset/cls/{n}.mat': sbd_mat([[0, i, 20]])
           for i, n in enumerate('acde')},
        'benchmark_RELEASE/dataset/train.txt': b'a\nd\n',
        'benchmark_RELEASE/dataset/val.txt': b'c\ne\n'}, 'w:gz')
    voc, sbd = DATASETS['voc12aug'].archives
    numbers = {'JPEGImages/*.jpg': 5, 'SegmentationClass/*.png': 3}
    small = DatasetSpec(
        (replace(voc, md5=None, counts={k: numbers.get(k, {'train': 2, 'val': 1}.get(Path(k).stem))
                                        for k in voc.counts}),
         replace(sbd, md5=None, counts=dict(zip(sbd.counts, (4, 2, 2))))),
        convert_sbd,
        dict(zip(DATASETS['voc12aug'].converted, (4, 2, 4))))
    return tmp_path, small


def test_voc12aug(voc):
    root, spec = voc
    lines = []
    assert prepare('voc12aug', root, say=lines.append, spec=spec), lines
    folder = root / 'VOCdevkit/VOC2012'
    image = Image.open(folder / 'SegmentationClassAug/d.png')
    assert image.mode == 'P' and image.getpalette()[:3] == PALETTE[:3]
    assert np.array(image).tolist() == [[0, 2, 20]]
    lists = folder / 'ImageSets/Segmentation'
    assert (lists / 'aug.txt').read_text() == 'd\ne\n'
    assert (lists / 'trainaug.txt').read_text() == 'a\nb\nd\ne\n'
    before = tree(root)
    assert prepare('voc12aug', root, say=lines.append, spec=spec)
    assert prepare('voc12aug', root, check_only=True, say=lines.append, spec=spec)
    assert tree(root) == before


def test_voc12aug_conversion_continues_where_it_stopped(voc):
    root, spec = voc
    damaged = root / 'VOCdevkit/VOCaug/dataset/cls/d.mat'
    for archive in spec.archives:
        prepare('voc12aug', root, say=str, spec=DatasetSpec((archive, )))
    whole = damaged.read_bytes()
    damaged.write_bytes(b'not a mat file')
    with pytest.raises(ValueError, match=r'd\.mat is not an SBD annotation'):
        prepare('voc12aug', root, say=str, spec=spec)
    made = root / 'VOCdevkit/VOC2012/SegmentationClassAug'
    assert sorted(path.name for path in made.iterdir()) == ['a.png', 'c.png']
    lines = []
    assert not prepare('voc12aug', root, check_only=True, say=lines.append, spec=spec)
    assert 'NOT CONVERTED' in lines[-1] and '2 instead of 4' in lines[-1]

    first = (made / 'a.png').stat().st_mtime_ns
    damaged.write_bytes(whole)
    assert prepare('voc12aug', root, say=str, spec=spec)
    assert (made / 'a.png').stat().st_mtime_ns == first


def test_sbd_labels_out_of_range_are_refused(tmp_path):
    (tmp_path / 'x.mat').write_bytes(sbd_mat([[0, 21]]))
    with pytest.raises(ValueError, match='classes 0 to 20.*values up to 21'):
        read_sbd_labels(tmp_path / 'x.mat')


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown data set 'voc07'"):
        prepare('voc07')


def test_tool(tmp_path, monkeypatch, capsys):
    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['prepare_data.py', *map(str, args)])
        with pytest.raises(SystemExit) as status:
            runpy.run_path(str(TOOL), run_name='__main__')
        return (status.value.code, *capsys.readouterr())

    code, out, err = run('ade20k', '--data-root', tmp_path / 'data', '--check-only')
    assert code == 1 and 'ADEChallengeData2016.zip' in out and not err
    assert out.endswith('ade20k: not ready\n')
    assert not list(tmp_path.iterdir())
    (tmp_path / 'ADEChallengeData2016.zip').write_bytes(b'PK half a file')
    code, out, err = run('ade20k', '--data-root', tmp_path)
    assert code == 1 and err.startswith('error: ') and 'damaged or incomplete' in err
