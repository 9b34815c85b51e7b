"""The wheel and the sdist in dist/, and the installed wheel in the hands of openmim.

`make test-package` runs this outside of the checkout, in an environment with the wheel alone.
"""

import functools
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator, Set

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


def mim(*arguments: str, cwd: Path) -> str:
    """Run openmim as a user does; returns what it printed."""
    command = [sys.executable, '-m', 'mim', *arguments]
    environ = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(command, cwd=cwd, env=environ, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def installed() -> Path:
    """Where the package is installed, told by an interpreter that cannot see the checkout."""
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
    for field in (' lr: ', ' eta: ', ' time: ', ' data_time: ', ' loss: '):
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


def test_search(tmp_path):
    mim('search', 'mobileone_mm', '--json', 'all.json', cwd=tmp_path)
    table = json.loads((tmp_path / 'all.json').read_text())
    assert table['coco/box_ap_of_the_paper']['ssdlite_mobileone_s4_coco'] == 29.4
    assert table['ade20k/miou_of_the_paper']['deeplabv3_mobileone_s0_ade20k'] == 33.1
    output = mim('search', 'mobileone_mm', '--condition', 'box_ap_of_the_paper>27', '--json',
                 'best.json', cwd=tmp_path)
    best = json.loads((tmp_path / 'best.json').read_text())
    assert set(best['config']) == {'ssdlite_mobileone_s3_coco', 'ssdlite_mobileone_s4_coco'}, output


@pytest.fixture
def published(installed, tmp_path) -> Iterator[bytes]:
    """Weights of CONFIG, published by a server on this machine and named in its metafile."""
    folder = tmp_path / 'served'
    folder.mkdir()
    (folder / 'shapes.pth').write_bytes(b'weights')
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    metafile = installed / '.mim/configs/detection/metafile.yml'
    original = metafile.read_text()
    config = f'    Config: configs/detection/{CONFIG}\n'
    assert config in original
    metafile.write_text(original.replace(
        config, f'{config}    Weights: http://127.0.0.1:{server.server_port}/shapes.pth\n'))
    yield b'weights'
    metafile.write_text(original)
    server.shutdown()


def test_download(published, tmp_path):
    name = CONFIG[:-3]
    mim('download', 'mobileone_mm', '--config', name, '--dest', 'got', cwd=tmp_path)
    assert (tmp_path / 'got/shapes.pth').read_bytes() == published
    assert "type='MobileOne'" in (tmp_path / f'got/{name}.py').read_text()
