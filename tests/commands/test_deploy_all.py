"""tools/deploy.py --backend all: one table, even if some backends fail."""

from pathlib import Path

import export_models
import pytest

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mobileone_mm.commands import deploy_all as module  # noqa: E402
from mobileone_mm.export import FORMATS, ParityError  # noqa: E402
from mobileone_mm.export.errors import MissingPackageError  # noqa: E402
from mobileone_mm.export.parity import FLOAT32, Parity  # noqa: E402
from mobileone_mm.export.pipeline import Exported  # noqa: E402


@pytest.fixture
def outcomes(monkeypatch):
    """Replace the exporters: by default each writes a file; exceptions are raised."""
    found = {}

    def export(backend, out, **options):
        if backend in found:
            raise found[backend]
        path = Path(out, f'x_{backend}{FORMATS[backend].suffix}')
        path.parent.mkdir(exist_ok=True)
        path.write_text('weights')
        return Exported(path, 1000, Parity(FLOAT32, {}, images=1), 2.)

    monkeypatch.setattr(module, 'export_model', export)
    monkeypatch.setattr(module, 'processor_times',
                        lambda files, *_: {name: 1. + len(name) for name in files})
    return found


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp('all')
    cfg = export_models.config(export_models.DETECTION, size=(96, 64))
    export_models.save(export_models.model(cfg), folder / 'x.pth')
    cfg.dump(folder / 'x.py')
    picture, = export_models.write_pictures(folder / 'pictures', 1)
    return dict(config=str(folder / 'x.py'), checkpoint=str(folder / 'x.pth'), image=str(picture),
                report=lambda text: None)


def lines(folder):
    return {line.split(' | ')[0][2:]: line
            for line in (folder / 'x_all.md').read_text().splitlines()[2:]}


def test_failures_are_lines_of_the_table(arguments, outcomes, tmp_path):
    outcomes.update(ncnn=ParityError('boxes differ'), coreml=MissingPackageError('no package'),
                    litert=RuntimeError('no such operator'))
    rows = module.deploy_all(out=str(tmp_path), **arguments)
    assert {row.backend: row.failed for row in rows if not row.exported} == dict(
        ncnn=True, coreml=False, litert=True)
    found = lines(tmp_path)
    assert list(found) == list(FORMATS)
    assert 'boxes differ' in found['ncnn'] and 'no such operator' in found['litert']
    assert '| x_onnx.onnx | 1,000 | ' in found['onnx'] and '| 5.0 |' in found['onnx']
    assert (tmp_path / 'x_all.png').read_bytes().startswith(b'\x89PNG')


def test_an_interrupted_run_keeps_its_table(arguments, outcomes, tmp_path):
    outcomes.update(ncnn=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        module.deploy_all(out=str(tmp_path), **arguments)
    before = list(FORMATS)[:list(FORMATS).index('ncnn')]
    assert list(lines(tmp_path)) == before and (tmp_path / 'x_onnx.onnx').exists()


def test_metrics_of_checkpoint_and_files(arguments, outcomes, tmp_path, monkeypatch):
    def metrics(argv):
        if argv[1].endswith('.xml'):
            raise RuntimeError('out of memory')
        return {'coco/bbox_mAP_50': .9, 'coco/bbox_mAP': .5}

    monkeypatch.setattr(module, 'test', metrics)
    rows = module.deploy_all(out=str(tmp_path), evaluate=True, **arguments)
    assert rows[0].backend == 'PyTorch'
    assert {row.backend for row in rows if row.metric == ('coco/bbox_mAP', .5)} == {
        'PyTorch', *FORMATS} - {'openvino'}
    failed, = (row for row in rows if row.failed)
    assert failed.backend == 'openvino' and 'out of memory' in lines(tmp_path)['openvino']
