"""The wheel and the sdist in dist/, and openmim on the installed wheel.

`make test-package` runs this outside the checkout, in an environment with only the wheel.
"""

import functools
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'ssdlite_mobileone_s0_shapes.py'
TINY = ['--cfg-options', 'train_dataloader.batch_size=2', 'val_dataloader.batch_size=2',
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'model.backbone.num_conv_branches=1',
        'train_dataloader.dataset.pipeline.2.scale=(64,64)',
        'val_dataloader.dataset.pipeline.1.scale=(64,64)', 'default_hooks.logger.interval=1']


def tracked(*folders: str) -> Set[str]:
    listed = subprocess.run(['git', 'ls-files', *folders], cwd=ROOT, check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    return set(listed.split())


def mim(*arguments: str, cwd: Path, **environ: str) -> str:
    """Run openmim like a user; returns its output."""
    command = [sys.executable, '-m', 'mim', *arguments]
    environ = {k: v for k, v in {**os.environ, **environ}.items() if k != 'PYTHONPATH'}
    done = subprocess.run(command, cwd=cwd, env=environ, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def installed() -> Path:
    """Where the package is installed, according to an interpreter that cannot see the checkout."""
    where = subprocess.run(
        [sys.executable, '-I', '-c', 'import mobileone_mm; print(mobileone_mm.__path__[0])'],
        check=True, text=True, stdout=subprocess.PIPE, cwd='/')
    path = Path(where.stdout.split()[-1])
    assert ROOT not in path.parents or 'site-packages' in path.parts
    return path


@pytest.fixture(scope='module')
def work(tmp_path_factory) -> Path:
    """A folder away from the checkout, with a few drawn images."""
    folder = tmp_path_factory.mktemp('work')
    output = mim('run', 'mobileone_mm', 'make_shapes', '--num-train', '4', '--num-val', '2',
                 cwd=folder)
    assert 'The script finished successfully' in output
    assert len(list((folder / 'data/shapes/coco/train2017').iterdir())) == 4
    return folder


def test_archives_hold_what_they_should():
    sdist, = (ROOT / 'dist').glob('mobileone_mm-*.tar.gz')
    wheel, = (ROOT / 'dist').glob('mobileone_mm-*-py3-none-any.whl')
    files = {name.split('/', 1)[-1] for name in tarfile.open(sdist).getnames()}
    sources = tracked('mobileone_mm')
    extras = tracked('configs', 'tools', 'model-index.yml', 'dataset-index.yml')
    assert extras
    assert sources | extras | {'setup.py', 'LICENSE', 'README.md'} <= files
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    assert inside == sources | {f'mobileone_mm/.mim/{name}' for name in extras}


def test_train_and_test(work):
    output = mim('train', 'mobileone_mm', CONFIG, '--work-dir', 'out', *TINY, cwd=work)
    assert 'Training finished successfully' in output
    # what users look for in the log
    for field in (' lr: ', ' eta: ', ' time: ', ' data_time: ', ' memory: ', ' loss: '):
        assert field in output
    for checkpoint in ('epoch_1.pth', 'epoch_1_deploy.pth'):
        assert (work / 'out' / checkpoint).is_file()
    output = mim('test', 'mobileone_mm', 'out/epoch_1_deploy.py', '--checkpoint',
                 'out/epoch_1_deploy.pth', '--work-dir', 'test', cwd=work)
    assert 'coco/bbox_mAP:' in output


def test_config_for_own_data(work, installed):
    coco = work / 'data/shapes/coco'
    annotations = coco / 'annotations'
    output = mim('run', 'mobileone_mm', 'custom_coco', '--out', 'own.py',
                 '--train', str(annotations / 'instances_train2017.json'),
                 '--val', str(annotations / 'instances_val2017.json'),
                 '--images', str(coco / 'train2017'), '--val-images', str(coco / 'val2017'),
                 cwd=work)
    assert '4 images; boxes: circle' in output
    base = installed / '.mim/configs/detection/ssdlite_mobileone_s1_coco.py'
    assert f"_base_ = '{base.as_posix()}'" in (work / 'own.py').read_text()


def test_a_benchmark_runs_from_the_installed_wheel(installed, tmp_path):
    """It imports from the package, not from tests/, which is not in the wheel."""
    done = subprocess.run(
        [sys.executable, '-I', str(installed / '.mim/tools/benchmark/nms.py'), '--boxes', '10'],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # Without mmcv's compiled ops, it says so after its imports.
    assert 'mmcv has no compiled ops here' in done.stdout or 'median ratio' in done.stdout


def test_search(tmp_path):
    mim('search', 'mobileone_mm', '--json', 'all.json', cwd=tmp_path)
    table = json.loads((tmp_path / 'all.json').read_text())
    assert table['coco/box_ap_of_the_paper']['ssdlite_mobileone_s4_coco'] == 29.4
    assert table['ade20k/miou_of_the_paper']['deeplabv3_mobileone_s0_ade20k'] == 33.1
    output = mim('search', 'mobileone_mm', '--condition', 'box_ap_of_the_paper>27', '--json',
                 'best.json', cwd=tmp_path)
    best = json.loads((tmp_path / 'best.json').read_text())
    assert set(best['config']) == {'ssdlite_mobileone_s3_coco', 'ssdlite_mobileone_s4_coco'}, output


@contextmanager
def edited(path: Path, *replacements: Tuple[str, str]) -> Iterator[None]:
    """Change the text of an installed file for a while."""
    original = text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(original)


@pytest.fixture
def published(installed, tmp_path) -> Iterator[bytes]:
    """Weights of CONFIG, served on this machine and named in its metafile."""
    folder = tmp_path / 'served'
    folder.mkdir()
    (folder / 'shapes.pth').write_bytes(b'weights')
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = f'    Config: configs/detection/{CONFIG}\n'
    url = f'http://127.0.0.1:{server.server_port}/shapes.pth'
    with edited(installed / '.mim/configs/detection/metafile.yml',
                (config, f'{config}    Weights: {url}\n')):
        yield b'weights'
    server.shutdown()


def test_download(published, tmp_path):
    name = CONFIG[:-3]
    mim('download', 'mobileone_mm', '--config', name, '--dest', 'got', cwd=tmp_path)
    assert (tmp_path / 'got/shapes.pth').read_bytes() == published
    assert "type='MobileOne'" in (tmp_path / f'got/{name}.py').read_text()


ODL = """#!{python}
import shutil, sys
from pathlib import Path
Path('called').write_text(' '.join(sys.argv[1:]))
raw = Path(sys.argv[-1], 'COCO_2017/raw')
for name, folder in [('Images/train2017', 'train2017'), ('Images/val2017', 'val2017'),
                     ('Annotations/annotations_trainval2017', 'annotations')]:
    shutil.make_archive(raw / name, 'zip', {coco!r}, folder)
"""


@pytest.fixture
def stand_in(work, tmp_path) -> str:
    """A PATH with a stand-in for OpenDataLab's program that supplies drawn pictures."""
    program = tmp_path / 'bin/odl'
    program.parent.mkdir()
    program.write_text(ODL.format(python=sys.executable, coco=str(work / 'data/shapes/coco')))
    program.chmod(0o755)
    return os.pathsep.join([str(program.parent), str(Path(sys.executable).parent),
                            os.environ['PATH']])


def test_download_of_a_dataset(stand_in, installed, tmp_path):
    with edited(installed / 'datasets/prepare/catalog.py', ('118287', '4'), ("': 5000", "': 2")):
        output = mim('download', 'mobileone_mm', '--dataset', 'coco2017', cwd=tmp_path,
                     PATH=stand_in)
    assert (tmp_path / 'called').read_text() == 'get COCO_2017 -d data/downloads', output
    # COCO's config looks there; the config of drawn classes, pointed to it, finds all its files.
    configs = installed / '.mim/configs/detection'
    code = ('from mobileone_mm.commands.train_test import read_config\n'
            'from mobileone_mm.datasets.preflight import check_data\n'
            f'root = read_config({str(configs / "ssdlite_mobileone_s1_coco.py")!r}).data_root\n'
            'assert root == "data/coco/"\n'
            f'check_data(read_config({str(configs / CONFIG)!r}, dict(data_root=root)))')
    subprocess.run([sys.executable, '-I', '-c', code], cwd=tmp_path, check=True)
