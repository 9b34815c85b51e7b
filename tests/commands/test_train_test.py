"""The options of tools/train.py and tools/test.py."""

import argparse
import math
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from paths import ROOT

from mobileone_mm import MobileOneBlock
from mobileone_mm.commands import train_test as cli

pytest.importorskip('mmdet')
from tiny_detector import losses, run, write_config  # noqa: E402

S2 = str(ROOT / 'configs/detection/ssdlite_mobileone_s2_coco.py')


@pytest.fixture
def configured(monkeypatch):
    """A function that returns the config with which a command would have trained."""
    def train(*arguments):
        seen = []

        def build(cfg):
            seen.append(cfg)
            return SimpleNamespace(train=lambda: None)

        monkeypatch.setattr(cli, '_build_runner', build)
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


@pytest.mark.parametrize('rank, checks', [(None, 1), ('0', 1), ('1', 0)])
def test_one_process_of_a_machine_checks_the_data(tmp_path, monkeypatch, configured, rank, checks):
    """The others would read every annotation again, and print the same errors."""
    seen = []
    monkeypatch.setattr(cli, 'check_data', lambda cfg, loaders: seen.append(loaders))
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('LOCAL_RANK', rank)
    configured(write_config(tmp_path / 'a', num_train=4), '--work-dir', tmp_path / 'run')
    assert seen == [('train', 'val')] * checks


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


def test_resume_names_the_last_whole_checkpoint(tmp_path, configured, capsys):
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    work_dir.mkdir()
    assert not configured(config, '--work-dir', work_dir, '--resume').resume
    torch.save(dict(meta={}), work_dir / 'epoch_1.pth')
    broken = work_dir / 'epoch_2.pth'
    broken.write_bytes((work_dir / 'epoch_1.pth').read_bytes()[:-9])
    cfg = configured(config, '--work-dir', work_dir, '--resume')
    assert cfg.resume and cfg.load_from == str(work_dir / 'epoch_1.pth')
    message = _fails(capsys, config, '--work-dir', work_dir, '--resume', broken)
    assert 'epoch_2.pth is no whole checkpoint' in message and 'epoch_1.pth' in message


def test_load_from_a_damaged_file(tmp_path, capsys):
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(b'PK damaged')
    message = _fails(capsys, write_config(tmp_path, num_train=4), '--cfg-options',
                     f'load_from={broken}')
    assert f'{broken} is truncated or not a checkpoint' in message


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
    weights = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=True)['state_dict']
    assert {w.dtype for w in weights.values()} == {torch.float32, torch.int64}


def test_test_evaluates_and_keeps_the_predictions(tmp_path, capsys):
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
