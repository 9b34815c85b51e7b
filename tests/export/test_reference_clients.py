"""Compare the clients in examples/python, which only read NAME.json and the model, with PyTorch."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import example_files
import export_models
import mmcv
import numpy as np
import pytest
import small_exports
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

for _module in ('mmdet', 'mmseg', 'onnx', 'onnxruntime'):
    pytest.importorskip(_module, reason=f'{_module} is not installed (make env-deploy)')

from mobileone_mm.export import FORMATS  # noqa: E402
from mobileone_mm.export.errors import MissingPackageError  # noqa: E402
from mobileone_mm.export.formats import require  # noqa: E402
from mobileone_mm.export.int8.quantizers import QUANTIZERS  # noqa: E402
from mobileone_mm.export.pipeline import export_model  # noqa: E402
from mobileone_mm.export.running.exported_model import ExportedModel  # noqa: E402
from mobileone_mm.export.samples import Samples  # noqa: E402
from mobileone_mm.folding.reparameterize import reparameterize  # noqa: E402

CLIENTS = dict(onnx='run_onnxruntime', onnxruntime='run_onnxruntime', openvino='run_openvino',
               ncnn='run_ncnn', litert='run_litert', executorch='run_executorch')
HEIGHT, WIDTH = small_exports.SIZE
MODULES = {'cv2', 'json', 'numpy', 'pathlib', 'reference', 'sys', 'torch', 'typing',
           'ai_edge_litert', 'executorch', 'ncnn', 'onnxruntime', 'openvino'}


@pytest.fixture(scope='module', params=['detector', 'segmentor'])
def trained(request, tmp_path_factory):
    """Config and checkpoint, the PyTorch model, and pictures; a detector's pictures are resized."""
    folder = tmp_path_factory.mktemp(request.param)
    model, cfg = getattr(small_exports, request.param)()
    for transform in cfg.test_dataloader.dataset.pipeline:
        if transform.type == 'Resize':
            transform.scale = (WIDTH, HEIGHT)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.dump(folder / 'config.py')
    export_models.save(model, folder / 'model.pth')
    size = (88, 136) if request.param == 'detector' else (HEIGHT, WIDTH)
    for index in range(3):
        picture = export_models.images(1, *size, seed=index)[0].permute(1, 2, 0).numpy()
        mmcv.imwrite(np.ascontiguousarray(picture), str(folder / f'{index}.png'))
    return folder, model, cfg


def exported(folder, backend, **options):
    """The path of an export, made once; skips if its packages are not installed."""
    if backend not in FORMATS:
        pytest.skip(f'there is no backend {backend}')
    try:
        require(FORMATS[backend])
    except MissingPackageError as error:
        pytest.skip(str(error))
    init_default_scope('mmdet' if 'detector' in folder.name else 'mmseg')  # like an export
    out = folder / '-'.join([backend, *options])
    path = out / f'config_{backend}{FORMATS[backend].suffix}'
    if not path.exists():
        export_model(folder / 'config.py', folder / 'model.pth', backend, folder / '0.png', out,
                     **options)
    return path


def quantized(folder, backend, monkeypatch):
    """The path of an int8 file, whose ranges come from the pictures in the folder."""
    from mobileone_mm.export.int8 import quantize, quantizers
    cfg = Config.fromfile(folder / 'config.py')
    try:
        require(FORMATS[backend])
        quantizers.require_quantizer(backend)
    except MissingPackageError as error:
        pytest.skip(str(error))
    init_default_scope(cfg.default_scope)
    samples = Samples(cfg)

    class Images(list):
        def __init__(self, cfg, count):
            super().__init__(samples(folder / f'{index}.png')['inputs'][0][None].float().numpy()
                             for index in range(min(count, 3)))
            self.dataset = SimpleNamespace(metainfo=dict(classes=samples.classes))

    monkeypatch.setattr(quantize, 'CalibrationImages', Images)
    return quantize.quantize_model(folder / 'config.py', folder / 'model.pth', backend,
                                   folder / f'{backend}-int8')


def answers(client, path, pictures, monkeypatch):
    """A client's predictions; also checks the axes in NAME.json against the arrays."""
    def checked(outputs, info, size):
        assert len(outputs) == len(info['outputs'])
        width, height = client.reference.input_size(*size[::-1], info)
        lengths = dict(C=len(info['classes']), H=height, W=width, N=1)
        for array, output in zip(outputs, info['outputs']):
            assert array.ndim == len(output['axes']), output
            for length, axis in zip(array.shape, output['axes']):
                assert length == lengths.setdefault(axis, length if axis in 'PKhw' else None) \
                    if isinstance(axis, str) else length == axis, output
        return original(outputs, info, size)
    original = client.reference.postprocess
    monkeypatch.setattr(client.reference, 'postprocess', checked)
    return [client.predict(path, cv2.imread(str(picture))) for picture in pictures]


def assert_every_key(path, trained):
    """NAME.json has the keys of the table in docs/deploy.md, filled in."""
    info = json.loads(path.with_suffix('.json').read_text())
    assert documented_keys() == set(info) | {f'input.{key}' for key in info['input']} | {
        f'resize.{key}' for key in info['resize']}
    assert info['classes'] == Samples(trained[2]).classes
    assert len(info['palette']) == len(info['classes'])
    assert set(FORMATS[info['backend']].packages) < set(info['versions'])
    assert info['precision'] == 'f32' and info['thresholds'].keys() == (
        {'score_thr', 'nms_pre', 'min_bbox_size', 'iou_threshold', 'max_per_img'}
        if info['task'] == 'detection' else set())


def documented_keys():
    """The first column of the table of keys."""
    page = (example_files.EXAMPLES.parent / 'docs/deploy.md').read_text()
    table = page.split('## Read NAME.json')[1].split('\n## ')[0]
    rows = re.findall(r'^\| (`[^|]+) \|', table, re.M)
    return {key for row in rows for key in re.findall('`([a-z._]+)`', row)}


def assert_same(sample, answer):
    """Boxes within 0.02 pixels, scores within 1e-4, equal labels; 99.9 % of a label map."""
    if not isinstance(answer, tuple):
        assert answer.shape == tuple(sample.ori_shape)
        assert (answer == sample.pred_sem_seg.data[0].numpy()).mean() >= .999
        return
    found = sample.pred_instances
    boxes, scores, labels = answer
    assert len(boxes) == len(found) > 10
    for box, score, label in zip(found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()):
        partner = ((np.abs(boxes - box).max(1) < .02) & (np.abs(scores - score) < 1e-4)
                   & (labels == label))
        assert partner.any(), (box, score, label)


@pytest.mark.parametrize('backend', CLIENTS)
def test_a_client_answers_as_pytorch(trained, backend, monkeypatch):
    folder, model, cfg = trained
    path = exported(folder, backend)
    assert_every_key(path, trained)
    client = example_files.load(CLIENTS[backend])
    pictures = sorted(folder.glob('*.png'))
    samples = Samples(cfg)
    for picture, answer in zip(pictures, answers(client, path, pictures, monkeypatch)):
        with torch.no_grad():
            assert_same(model.test_step(samples(picture))[0], answer)


@pytest.mark.parametrize('backend', QUANTIZERS)
def test_a_client_reads_int8_files_too(trained, backend, monkeypatch):
    folder, model, _ = trained
    result = quantized(folder, backend, monkeypatch)
    assert_every_key(result.path, trained)
    info = json.loads(result.path.with_suffix('.json').read_text())
    assert info['backend'] == backend and QUANTIZERS[backend] in info['versions']
    assert (backend in ('onnx', 'openvino')) == ('onnx' in info['versions'])
    if backend == 'openvino':
        import openvino
        written = openvino.Core().read_model(result.path)
        assert written.get_rt_info(['runtime_options', 'INFERENCE_PRECISION_HINT']).value == 'f32'
    else:
        layers = {layer.name.partition('@')[0] for layer in result.layers}
        assert layers < {name for name, module in model.named_modules()} | {
            name for name, module in reparameterize(model).named_modules()}
    client = example_files.load(CLIENTS[backend])
    found, = answers(client, result.path, [folder / '0.png'], monkeypatch)
    assert len(found[0]) > 10 if isinstance(found, tuple) else found.shape == (HEIGHT, WIDTH)


def test_an_open_size_follows_the_resize_rule(trained, monkeypatch):
    folder, model, cfg = trained
    path = exported(folder, 'onnx', dynamic=['size'])
    picture = folder / 'other.bmp'
    mmcv.imwrite(export_models.images(1, 80, 112)[0].permute(1, 2, 0).numpy().copy(), str(picture))
    answer, = answers(example_files.load('run_onnxruntime'), path, [picture], monkeypatch)
    with torch.no_grad():
        assert_same(model.test_step(Samples(cfg)(picture))[0], answer)


def test_an_ort_file_answers_as_its_onnx(trained, tmp_path, monkeypatch):
    folder, _, _ = trained
    path = shutil.copy(exported(folder, 'onnx'), tmp_path / 'x.onnx')
    shutil.copy(exported(folder, 'onnx').with_suffix('.json'), tmp_path / 'x.json')
    subprocess.run([sys.executable, '-m', 'onnxruntime.tools.convert_onnx_models_to_ort', path],
                   check=True, capture_output=True)
    client = example_files.load('run_onnxruntime')
    pictures = [folder / '0.png']
    one, other = (np.concatenate([np.ravel(part) for part in answers(client, file, pictures,
                                                                     monkeypatch)[0]])
                  for file in (path, tmp_path / 'x.ort'))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_the_form_of_react_native(trained, monkeypatch):
    folder, model, cfg = trained
    if 'detector' not in folder.name:
        pytest.skip('it is of detectors')
    path = exported(folder, 'executorch', form='react-native')
    info = json.loads(path.with_suffix('.json').read_text())
    assert [info['input'][key] for key in ('channels', 'std')] == ['RGB', [255.] * 3]
    assert [output['name'] for output in info['outputs']] == ['boxes', 'scores', 'labels']
    answer, = answers(example_files.load('run_executorch'), path, [folder / '0.png'], monkeypatch)
    # mmdet reports all classes of a box, this form only the best: compare with the package instead.
    assert_same(ExportedModel.load(path, model.data_preprocessor).test_step(
        Samples(cfg)(folder / '0.png'))[0], answer)


def test_wrong_numbers_in_the_json_are_seen(trained, tmp_path, monkeypatch):
    folder, model, cfg = trained
    path = shutil.copy(exported(folder, 'onnx'), tmp_path / 'x.onnx')
    text = exported(folder, 'onnx').with_suffix('.json').read_text()
    (tmp_path / 'x.json').write_text(text.replace('"channels": "BGR"', '"channels": "RGB"'))
    answer, = answers(example_files.load('run_onnxruntime'), path, [folder / '0.png'], monkeypatch)
    with torch.no_grad(), pytest.raises(AssertionError):
        assert_same(model.test_step(Samples(cfg)(folder / '0.png'))[0], answer)


def test_it_runs_alone(trained, tmp_path):
    folder, _, _ = trained
    path = exported(folder, 'onnx')
    for source in (path, path.with_suffix('.json'), folder / '0.png'):
        shutil.copy(source, tmp_path)
    script = example_files.EXAMPLES / 'python/run_onnxruntime.py'
    done = subprocess.run([sys.executable, script, path.name, '0.png'], cwd=tmp_path,
                          env={}, capture_output=True, text=True, check=True)
    first = dict(detector=('RBC', 'WBC', 'Platelets'), segmentor=('background', 'nucleus'))
    assert done.stdout.split(' ')[0] in first[folder.name[:-1]]


@pytest.mark.parametrize('path', sorted((example_files.EXAMPLES / 'python').glob('*.py')),
                         ids=lambda path: path.name)
def test_the_examples_do_not_import_this_package(path: Path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert {name.split('.')[0] for name in names} <= MODULES
    assert 'torch' not in names or path.name == 'run_executorch.py'
