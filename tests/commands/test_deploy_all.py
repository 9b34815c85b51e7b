"""tools/deploy.py --backend all: one table, even if some backends fail."""

from pathlib import Path

import export_models
import pytest

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mobileone_mm.commands import deploy_all as module  # noqa: E402
from mobileone_mm.export import FORMATS, ExportError, ParityError  # noqa: E402
from mobileone_mm.export.errors import MissingPackageError  # noqa: E402
from mobileone_mm.export.parity import FLOAT32, Parity  # noqa: E402
from mobileone_mm.export.pipeline import Exported  # noqa: E402


@pytest.fixture
def outcomes(monkeypatch):
    """Replace the exporters, and list their calls: each writes a file, or raises an exception."""
    found, calls = {}, []

    def export(trained, backend, out, **options):
        calls.append((backend, options))
        if backend in found:
            raise found[backend]
        path = Path(out, f'x_{backend}{FORMATS[backend].suffix}')
        path.parent.mkdir(exist_ok=True)
        path.write_text('weights')
        return Exported(path, 1000, Parity(FLOAT32, {}, images=1), 2.)

    monkeypatch.setattr(module, 'export_trained', export)
    monkeypatch.setattr(module, 'processor_times',
                        lambda files, *_: {name: 1. + len(name) for name in files})
    return found, calls


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
    outcomes[0].update(ncnn=ParityError('boxes differ'), coreml=MissingPackageError('no package'),
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
    outcomes[0].update(ncnn=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        module.deploy_all(out=str(tmp_path), **arguments)
    before = list(FORMATS)[:list(FORMATS).index('ncnn')]
    assert list(lines(tmp_path)) == before and (tmp_path / 'x_onnx.onnx').exists()


def test_metrics_of_checkpoint_and_files(arguments, outcomes, tmp_path, monkeypatch):
    def metrics(argv):
        if argv[1].endswith('.xml'):
            raise RuntimeError('out of memory')
        return {'coco/bbox_mAP_l': .7, 'coco/bbox_mAP': .5, 'coco/bbox_mAP_50': .9}

    monkeypatch.setattr(module, 'test', metrics)
    rows = module.deploy_all(out=str(tmp_path), evaluate=True, **arguments)
    assert rows[0].backend == 'PyTorch'
    assert {row.backend for row in rows
            if row.metrics == {'coco/bbox_mAP': .5, 'coco/bbox_mAP_50': .9}} == {
        'PyTorch', *FORMATS} - {'openvino'}
    failed, = (row for row in rows if row.failed)
    assert failed.backend == 'openvino' and 'out of memory' in lines(tmp_path)['openvino']
    assert lines(tmp_path)['onnx'].endswith('| 5.0 | 0.5000 | 0.9000 |')


def test_axes_and_float16_where_the_backend_has_them(arguments, outcomes, tmp_path, monkeypatch):
    def metrics(argv):
        if argv[1].endswith('.param'):
            raise ExportError('the input is 96x64')
        return dict(mIoU=.5)

    monkeypatch.setattr(module, 'test', metrics)
    rows = module.deploy_all(out=str(tmp_path), dynamic=['size'], half=True, evaluate=True,
                             verify='pictures', **arguments)
    calls = dict(outcomes[1])
    assert list(calls) == [name for name, chosen in FORMATS.items() if chosen.half]
    assert {name: call['dynamic'] for name, call in calls.items()} == {
        name: list(FORMATS[name].dynamic[1:]) for name in calls}
    # Pictures of other sizes than the file's cannot be compared, nor tested.
    assert {name for name, call in calls.items() if call['verify']} == {
        'onnx', 'openvino', 'onnxruntime'}
    found = lines(tmp_path)
    assert 'fixed size; the input is 96x64' in found['ncnn'] and 'float16' in found['litert']
    assert not any(row.failed for row in rows)
    with pytest.raises(ExportError, match="dynamic 'width': expected batch or size"):
        module.deploy_all(out=str(tmp_path), dynamic=['width'], **arguments)


def test_one_load_and_one_fold_for_all_backends(arguments, tmp_path, monkeypatch):
    from mobileone_mm.export import trained
    pytest.importorskip('onnxruntime', reason='needs onnxruntime (make test-deploy)')
    counts = []

    def count(name, intact):
        def counted(*args, **options):
            counts.append(name)
            return intact(*args, **options)
        monkeypatch.setattr(trained, name, counted)

    for name in ('load_weights', 'reparameterize'):
        count(name, getattr(trained, name))
    backends = ('onnx', 'openvino', 'ncnn')
    monkeypatch.setattr(module, 'FORMATS', {name: FORMATS[name] for name in backends})
    rows = module.deploy_all(out=str(tmp_path), **arguments)
    assert [row.problem for row in rows if row.failed] == []
    assert sum(row.exported is not None for row in rows) > 1
    # The blocks, then the norms of the heads.
    assert counts == ['load_weights', 'reparameterize', 'reparameterize']
