"""The options of tools/train.py and tools/test.py."""

import argparse
import math
import multiprocessing
import os
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from paths import ROOT
from payload import Payload

from mobileone_mm import MobileOneBlock
from mobileone_mm.commands import train_test as cli
from mobileone_mm.datasets.preflight import DataCheck
from mobileone_mm.engine import lock_directories
from mobileone_mm.folding.models import build_model
from mobileone_mm.utils.checkpoint_files import read_checkpoint
from mobileone_mm.utils.configs import read_config
from mobileone_mm.utils.errors import PreflightError

pytest.importorskip('mmdet')
from tiny_detector import losses, run, write_config  # noqa: E402

S2 = str(ROOT / 'configs/detection/ssdlite_mobileone_s2_coco.py')


@pytest.fixture
def configured(monkeypatch):
    """A function that returns the config that a command would train."""
    def train(*arguments):
        seen = []

        def build(cfg):
            seen.append(cfg)
            return SimpleNamespace(train=lambda: None)

        monkeypatch.setattr(cli, '_build_runner', build)
        monkeypatch.setattr(cli, 'check_network', lambda *_: [])  # there is none
        cli.train([str(argument) for argument in arguments])
        return seen[0]
    return train


def _fails(capsys, *arguments):
    assert cli.main(lambda _: cli.train([str(argument) for argument in arguments])) == 1
    message = capsys.readouterr().err
    assert 'error: ' in message
    return message


def test_the_stock_command_without_data_says_what_to_download(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = _fails(capsys, S2)
    for expected in ('data/coco', 'train2017.zip', 'tools/prepare_data.py coco', 'data_root=DIR'):
        assert message.count(expected) == 1 or expected == 'data/coco'


@pytest.mark.parametrize('rank, notes', [(None, True), ('0', True), ('1', False)])
def test_one_process_per_machine_reports_on_the_data(tmp_path, monkeypatch, configured, capsys,
                                                       rank, notes):
    """Each process reads the annotations, since it may need a repaired copy; one reports."""
    seen = []

    def check(cfg, loaders):
        seen.append(loaders)
        return DataCheck(['2 boxes are left out'], 4)

    monkeypatch.setattr(cli, 'check_data', check)
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    configured(write_config(tmp_path / 'a', num_train=4), '--work-dir', tmp_path / 'run')
    assert seen == [('train', 'val')]
    assert ('note: 2 boxes are left out' in capsys.readouterr().out) == notes


@pytest.mark.parametrize('rank, tells', [('0', True), ('1', False)])
def test_one_process_per_machine_reports_an_error_and_all_fail(tmp_path, monkeypatch, capsys,
                                                               rank, tells):
    def check(cfg, loaders):
        raise PreflightError('an image is missing')

    monkeypatch.setattr(cli, 'check_data', check)
    monkeypatch.setenv('LOCAL_RANK', rank)
    monkeypatch.setattr(cli, '_build_runner', lambda cfg: pytest.fail('it trains'))
    config = write_config(tmp_path / 'a', num_train=4)
    with pytest.raises((PreflightError, SystemExit)) as caught:
        cli.train([str(config), '--work-dir', str(tmp_path / 'run')])
    assert (caught.type is PreflightError) == tells
    assert tells or caught.value.code == 1
    assert not capsys.readouterr().err


def test_options_reach_the_config(tmp_path, configured):
    config, work_dir = write_config(tmp_path / 'a', num_train=4), tmp_path / 'run'
    cfg = configured(config, '--work-dir', work_dir, '--auto-scale-lr', '--cfg-options',
                     'optim_wrapper.optimizer.lr=0.3')
    assert cfg.work_dir == str(work_dir) and cfg.optim_wrapper.optimizer.lr == 0.3
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=192)
    assert not cfg.resume and cfg.load_from is None


def test_data_root_moves_every_path():
    cfg = cli.load_config(argparse.Namespace(
        config=S2, cfg_options=dict(data_root='/elsewhere'), launcher='none', local_rank=0,
        work_dir=None))
    assert cfg.train_dataloader.dataset.data_root == '/elsewhere/'
    assert cfg.test_evaluator.ann_file == '/elsewhere/annotations/instances_val2017.json'
    assert 'data/coco' not in str(cfg.to_dict())
    assert cfg.work_dir == str(Path('work_dirs', Path(S2).stem))


def test_resume_names_the_last_complete_checkpoint(tmp_path, configured, capsys):
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    work_dir.mkdir()
    assert not configured(config, '--work-dir', work_dir, '--resume').resume
    torch.save(dict(meta=dict(epoch=1, iter=2), message_hub={}, state_dict={}, optimizer={}),
               work_dir / 'epoch_1.pth')
    broken = work_dir / 'epoch_2.pth'
    broken.write_bytes((work_dir / 'epoch_1.pth').read_bytes()[:-9])
    cfg = configured(config, '--work-dir', work_dir, '--resume')
    assert cfg.resume and cfg.load_from == str(work_dir / 'epoch_1.pth')
    cfg = configured(config, '--work-dir', work_dir, '--cfg-options', 'resume=True')
    assert cfg.resume and cfg.load_from == str(work_dir / 'epoch_1.pth')
    message = _fails(capsys, config, '--work-dir', work_dir, '--resume', broken)
    assert 'epoch_2.pth is truncated or not a checkpoint' in message
    assert f'the newest complete one beside it is {work_dir / "epoch_1.pth"}' in message


def test_resume_if_all_checkpoints_are_damaged(tmp_path, capsys):
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'damaged')
    message = _fails(capsys, config, '--work-dir', work_dir, '--resume')
    assert 'is complete: epoch_1.pth. Move them away to start from scratch' in message
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']


def test_resume_of_another_model_is_one_line_and_writes_nothing(tmp_path, capsys):
    config, work_dir = write_config(tmp_path, num_train=2), tmp_path / 'run'
    assert run(config, work_dir, **{'train_cfg.max_epochs': 1}) == 0
    before = {path: path.stat().st_mtime_ns for path in work_dir.glob('*.p*')}
    capsys.readouterr()
    message = _fails(capsys, config, '--work-dir', work_dir, '--resume', '--cfg-options',
                     'model.backbone.arch.width_factor=(.5,.25,.25,.25)', 'visualizer.name=other',
                     'experiment_name=other')
    assert 'epoch_1.pth does not belong to the training of this config: it has' in message
    assert 'of another shape (backbone.' in message and message.count('\n') == 1
    assert {path: path.stat().st_mtime_ns for path in work_dir.glob('*.p*')} == before


@pytest.mark.skipif(os.name == 'nt', reason='no locks there')
def test_a_second_training_in_the_directory_is_refused(tmp_path, capsys):
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    process = multiprocessing.get_context('fork').Process(target=_hold, args=(work_dir, ))
    process.start()
    while not (work_dir / '.training.lock').exists() \
            or not (work_dir / '.training.lock').read_text():
        time.sleep(.01)
    try:
        for arguments in ((), ('--resume', )):
            message = _fails(capsys, config, '--work-dir', work_dir, *arguments)
            assert f'is in use by another training, process {process.pid} on' in message
    finally:
        process.kill()
        process.join()


def _hold(work_dir):
    with lock_directories(work_dir):
        time.sleep(300)


def test_the_first_process_of_all_locks(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert cli._is_main_process('none') and not cli._is_main_process('pytorch')
    assert cli._is_main_process('slurm')


def test_load_from_a_damaged_file(tmp_path, capsys):
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(b'PK damaged')
    message = _fails(capsys, write_config(tmp_path, num_train=4), '--cfg-options',
                     f'load_from={broken}')
    assert f'{broken} is truncated or not a checkpoint' in message


def _train_from(config, tmp_path, checkpoint, capsys, *more):
    """Try to train an epoch from a checkpoint; returns the status and the message."""
    arguments = [config, '--work-dir', tmp_path / 'run', '--cfg-options', f'load_from={checkpoint}',
                 'train_cfg.max_epochs=1', 'train_dataloader.dataset.pipeline.4.scale=(64,64)',
                 'val_dataloader.dataset.pipeline.1.scale=(64,64)',
                 f'experiment_name={checkpoint.stem}', f'visualizer.name={checkpoint.stem}', *more]
    status = cli.main(lambda _: cli.train([str(argument) for argument in arguments]))
    told = capsys.readouterr()
    assert len(told.out + told.err) < 10_000  # mmengine warns with 46,000
    return status, told.err


def test_load_from_takes_whole_models_of_this_kind(tmp_path, capsys):
    """Otherwise only mmengine's warnings would say that a foreign file's weights are left out."""
    config = write_config(tmp_path, num_train=2)
    model = build_model(read_config(config))
    weights = model.state_dict()
    files = {
        'whole': dict(state_dict=weights),
        'other_classes': dict(state_dict={
            k: torch.zeros(3, *v.shape[1:]) if 'cls_convs.0.1' in k else v
            for k, v in weights.items()}),
        'backbone': model.backbone.state_dict(),
        'wrapped': dict(model=weights),
        'compiled': {f'_orig_mod.{k}': v for k, v in weights.items()},
        'diverged': dict(state_dict={k: v * float('nan') if v.is_floating_point() else v
                                for k, v in weights.items()}),
        'payload': dict(state_dict=weights, x=Payload(tmp_path / 'ran'))}
    for name, content in files.items():
        torch.save(content, tmp_path / f'{name}.pth')
    for name in ('whole', 'other_classes'):
        assert _train_from(config, tmp_path, tmp_path / f'{name}.pth', capsys)[0] == 0
    for name, message in (('backbone', 'go to --cfg-options model.backbone.init_cfg.checkpoint'),
                          ('wrapped', 'are missing or of another shape, first backbone.stage0'),
                          ('compiled', 'are missing or of another shape'),
                          ('diverged', 'weights are NaN, backbone.stage0'),
                          ('payload', 'which could run code')):
        status, told = _train_from(config, tmp_path, tmp_path / f'{name}.pth', capsys)
        assert status == 1 and message in told
    assert not (tmp_path / 'ran').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU it is float16')
def test_amp_on_a_cpu_is_bfloat16(tmp_path, monkeypatch):
    config, seen = write_config(tmp_path, num_train=4), []
    forward = MobileOneBlock.forward

    def watch(self, x):
        out = forward(self, x)
        seen.append(out.dtype)
        return out

    monkeypatch.setattr(MobileOneBlock, 'forward', watch)
    assert run(config, tmp_path / 'run', '--amp', **{'train_cfg.max_epochs': 1}) == 0
    assert set(seen) == {torch.bfloat16, torch.float32}  # in training, in validation
    assert all(math.isfinite(loss) for loss in losses(tmp_path / 'run').values())
    weights = read_checkpoint(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    assert {w.dtype for w in weights.values()} == {torch.float32, torch.int64}


def test_test_evaluates_and_saves_the_predictions(tmp_path, capsys):
    config, work_dir = write_config(tmp_path, num_train=2), tmp_path / 'run'
    assert run(config, work_dir, **{'train_cfg.max_epochs': 1}) == 0
    scale = 'test_dataloader.dataset.pipeline.1.scale=(64,64)'
    arguments = [str(config), str(work_dir / 'epoch_1.pth'), '--work-dir', str(work_dir),
                 '--out', str(tmp_path / 'out.pkl'), '--cfg-options', scale]
    cli.test(arguments)
    with open(tmp_path / 'out.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 2 and all('pred_instances' in one for one in predictions)
    assert 'Average Precision' in capsys.readouterr().out

    wider = f'{scale} model.neck.out_channels=(64,128,48,32,32,16) ' \
        'model.bbox_head.in_channels=(64,128,48,32,32,16)'
    assert cli.main(lambda _: cli.test(arguments[:-1] + wider.split())) == 1
    assert 'epoch_1.pth' in capsys.readouterr().err
