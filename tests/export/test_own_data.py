"""Follow the README with your own data, up to an exported file and its evaluation.

The detector has seen four pictures twice, so all anchors score nearly the same. The comparison of
an export has to handle that.
"""

import pytest

for _name in ('mmdet', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.commands.train_test import test as evaluate  # noqa: E402
from mobileone_mm.commands.train_test import train  # noqa: E402
from mobileone_mm.datasets.custom_coco import read_split, write_custom_config  # noqa: E402
from mobileone_mm.datasets.drawn.shapes import make_shapes  # noqa: E402
from mobileone_mm.export.formats import FORMATS  # noqa: E402
from mobileone_mm.utils.configs import read_config  # noqa: E402

PACKAGES = dict(onnxruntime='mmdeploy', coreml='coremltools', litert='litert_torch')


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """A folder with a config.py from tools/custom_coco.py at 64 pixels, and a trained model."""
    folder = tmp_path_factory.mktemp('own')
    make_shapes(folder, 'coco', num_train=4, num_val=2)
    splits = [read_split(folder / f'coco/annotations/instances_{name}2017.json',
                         folder / f'coco/{name}2017') for name in ('train', 'val')]
    write_custom_config(*splits, folder / 'short.py', 'ssdlite_mobileone_s0_coco',
                        epochs=2, batch_size=2, from_scratch=True)
    cfg = read_config(folder / 'short.py')
    assert any(hook.type == 'EMAHook' for hook in cfg.custom_hooks)
    cfg.model.backbone.num_conv_branches = 1
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for transform in loader.dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = (64, 64)
    cfg.dump(folder / 'config.py')
    train([str(folder / 'config.py'), '--work-dir', str(folder / 'work'), *_names('train')])
    return folder


def _names(name):
    """mmengine has one message hub and one visualizer per name in a process."""
    return ['--cfg-options', 'log_level=ERROR', f'experiment_name={name}',
            f'visualizer.name={name}']


@pytest.mark.parametrize('backend', [name for name, f in FORMATS.items() if f.runtime])
def test_a_checkpoint_is_exported_compared_and_evaluated(own, run_tool, tmp_path, backend, capsys):
    package = PACKAGES.get(backend, backend)
    lane = 'test-litert' if backend == 'litert' else 'test-deploy'
    pytest.importorskip(package, reason=f'needs {package} (make {lane})')
    status = run_tool('deploy', own / 'config.py', own / 'work/epoch_2.pth', '--backend', backend,
                      '--image', next(own.glob('coco/val2017/*')), '--out', tmp_path)
    told = capsys.readouterr()
    assert status == 0, told.err
    assert 'maps before argmax or suppression differ by' in told.out
    exported = tmp_path / f'config_{backend}{FORMATS[backend].suffix}'
    metrics = evaluate([str(own / 'config.py'), str(exported), '--work-dir', str(tmp_path / 'work'),
                        *_names(f'own_{backend}')])
    assert 0 <= metrics['coco/bbox_mAP'] <= 1


def test_8_bits_are_made_and_evaluated(own, run_tool, tmp_path, capsys):
    assert run_tool('quantize', own / 'config.py', own / 'work/epoch_2.pth', '--backend', 'onnx',
                    '--out', tmp_path, '--images', 2, '--dynamic', 'batch', '--evaluate') == 0
    assert 'coco/bbox_mAP: float32 ' in capsys.readouterr().out
    path = tmp_path / 'config_onnx_int8.onnx'
    assert read_config(path.with_suffix('.py')).model.backbone.deploy
    import onnx
    batch = onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param
