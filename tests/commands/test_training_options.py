"""The lines of docs/training_options.md, as they stand there, on a tiny detector."""

import importlib.util
import json
import re
import shlex

import pytest
import torch
from mmengine.config import Config
from paths import ROOT
from torch.optim.optimizer import register_optimizer_step_post_hook

pytest.importorskip('mmdet')
from tiny_detector import run, write_config  # noqa: E402

from mobileone_mm.commands.train_test import main  # noqa: E402

PAGE = (ROOT / 'docs/training_options.md').read_text()
LINES = re.findall(r'^python tools/train\.py CONFIG (.*)$', PAGE, re.M)
LOGGERS = re.findall(r'^\| [^|]+ \| `(\w+VisBackend)` \| `(\w+)` \|$', PAGE, re.M)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that runs the page's line that holds some words, with ``options`` changed."""
    monkeypatch.chdir(tmp_path)

    def train(words, epochs=1, num_train=4, **options):
        line, = (line for line in LINES if words in line)
        arguments, _, settings = line.partition('--cfg-options')
        given = dict(setting.split('=', 1) for setting in shlex.split(settings))
        config = tmp_path / 'data' / 'tiny.py'
        if not config.exists():
            config.parent.mkdir()
            write_config(config.parent, num_train)
        assert run(config, tmp_path / 'out', *arguments.split(),
                   **{'train_cfg.max_epochs': epochs, 'train_dataloader.num_workers': 0,
                      'train_dataloader.persistent_workers': False, **given, **options}) == 0
        return tmp_path / 'out'
    return train


def scalars(work_dir):
    """What the runs logged, a dictionary a line."""
    return [json.loads(line) for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in path.read_text().splitlines()]


def epochs(work_dir):
    return sorted(int(path.stem[6:]) for path in work_dir.glob('epoch_*.pth'))


def checkpoint(work_dir, epoch=1):
    return torch.load(work_dir / f'epoch_{epoch}.pth', weights_only=False)


def dumped(work_dir):
    return Config.fromfile(work_dir / 'tiny.py')


def groups(work_dir):
    """The learning rates of the optimizer's groups."""
    return {group['lr'] for group in checkpoint(work_dir)['optimizer']['param_groups']}


def test_early_stopping(train):
    """No validation can be better than the first by more than 1."""
    work_dir = train('EarlyStoppingHook', 9, 2, **{'default_hooks.stop.min_delta': 2.,
                                                   'default_hooks.checkpoint.max_keep_ckpts': -1})
    assert epochs(work_dir) == [1, 2, 3, 4, 5, 6]  # the first and 5 more


def test_resuming(train, capsys):
    work_dir = train('--resume')
    capsys.readouterr()
    train('--resume', 2)
    assert f'resuming {work_dir}/epoch_1.pth' in capsys.readouterr().out
    assert epochs(work_dir) == [1, 2]


def test_validation_and_checkpoints(train):
    work_dir = train('val_interval=2', 4, 2)
    assert epochs(work_dir) == [2, 4] and list(work_dir.glob('best_coco_bbox_mAP_*.pth'))
    assert len([line for line in scalars(work_dir) if 'coco/bbox_mAP' in line]) == 2
    assert dumped(work_dir).default_hooks.checkpoint.max_keep_ckpts == 5


def test_the_seed(train):
    assert checkpoint(train('randomness.seed=1'))['meta']['seed'] == 1


def test_the_ap_of_each_class(train):
    assert any('coco/circle_precision' in line for line in scalars(train('classwise', 1, 2)))


@pytest.mark.parametrize('counts, updates', [(None, 1), (1, 4)])
def test_accumulation(train, counts, updates):
    steps = []
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    options = {} if counts is None else {'optim_wrapper.accumulative_counts': counts}
    try:
        train('accumulative_counts=4', 1, 8, **options)  # batches of 2
    finally:
        handle.remove()
    assert len(steps) == updates


def test_clipping(train):
    work_dir = train('clip_grad')
    assert all(line['grad_norm'] > 0 for line in scalars(work_dir) if 'loss' in line)
    assert dumped(work_dir).optim_wrapper.clip_grad == dict(max_norm=35)


def test_a_lower_rate_for_the_backbone(train):
    low, high = sorted(groups(train('lr_mult')))
    assert low == pytest.approx(.1 * high)


def test_the_rate_scales_with_the_batch(train):
    work_dir = train('--auto-scale-lr', **{'param_scheduler': []})
    rate, = groups(work_dir)
    assert rate == pytest.approx(dumped(work_dir).optim_wrapper.optimizer.lr * 2 / 192)


def test_mixed_precision(train):
    kind = dumped(train('--amp')).optim_wrapper.type
    assert kind == ('AmpOptimWrapper' if torch.cuda.is_available() else 'CPUAmpOptimWrapper')


def test_frozen_stages(train):
    work_dir = train('frozen_stages', 2)
    before, after = (checkpoint(work_dir, epoch)['state_dict'] for epoch in (1, 2))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not {key for key in changed if re.match(r'backbone\.stage[01]|backbone.*running', key)}
    assert {key for key in changed if re.match(r'backbone\.stage4.*conv\.weight', key)}


def test_averaged_weights(train):
    saved = checkpoint(train('EMAHook', **{'custom_hooks': []}))
    assert 'ema_state_dict' in saved


def test_without_averaged_weights(tmp_path, run_tool):
    line, = re.findall(r'^python tools/ablation\.py (.*)$', PAGE, re.M)
    config = ROOT / 'configs/detection/ssdlite_mobileone_s0_coco.py'
    words = {'CONFIG': str(config), 'DIR': str(tmp_path)}
    run_tool('ablation', *(words.get(word, word) for word in line.split()))
    kinds = [[hook.type for hook in Config.fromfile(path).custom_hooks]
             for path in (config, tmp_path / 'no_ema.py')]
    assert 'EMAHook' in kinds[0] and set(kinds[0]) - set(kinds[1]) == {'EMAHook'}


def test_the_interval_of_the_log(train):
    assert dumped(train('logger.interval')).default_hooks.logger.interval == 10


def test_profiling(train, tmp_path):
    train('ProfilerHook', num_train=6)
    events = json.loads((tmp_path / 'trace.json').read_text())['traceEvents']
    assert any('conv' in event['name'] for event in events)


@pytest.mark.parametrize('backend, package', LOGGERS)
def test_loggers(tmp_path, capsys, backend, package):
    line, = (line for line in LINES if 'BACKEND' in line)
    setting = line.split()[-1].replace('BACKEND', backend)
    config = write_config(tmp_path, 2)
    if importlib.util.find_spec(package):
        pytest.skip(f'{package} is installed; tests/commands/test_tensorboard.py runs TensorBoard')
    assert main(lambda _: run(config, tmp_path / 'out', **dict([setting.split('=')]))) == 1
    told = capsys.readouterr().err
    assert re.search(rf'error: Please run "pip install.* {package}"', told)
    assert 'Traceback' not in told


def test_no_line_is_left_out(request):
    """Each line of the page has a test here, which finds it by words of its own."""
    source = request.path.read_text()
    words = [*re.findall(r"train\('([^']+)'", source), 'BACKEND']
    assert len(LINES) > 12 and len(LOGGERS) == 7
    assert not [line for line in LINES if not any(word in line for word in words)]
