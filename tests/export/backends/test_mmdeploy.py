"""Call mmdeploy directly and through our tool, with the configs in configs/deploy."""

import export_models
import pytest
import torch
from mmengine.config import Config

for _name in ('mmdet', 'mmseg', 'onnx', 'onnxruntime', 'mmdeploy'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

import onnx  # noqa: E402

from mobileone_mm.export.parity import FLOAT32, compare_boxes, compare_labels  # noqa: E402
from mobileone_mm.export.pipeline import export_model  # noqa: E402
from mobileone_mm.export.running.exported_model import ExportedModel  # noqa: E402
from mobileone_mm.export.samples import Samples  # noqa: E402
from mobileone_mm.export.trained import load_trained  # noqa: E402
from mobileone_mm.utils.configs import config_directory  # noqa: E402

DEPLOY = config_directory('deploy')
IMAGE = 'pictures/0.png'
OTHER_SIZE = 'test_dataloader.dataset.pipeline.1.scale'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return export_models.write_trained(tmp_path_factory.mktemp('trained'))


def expected(trained, task):
    cfg, model = load_trained(trained / f'{task}.py', trained / f'{task}.pth')
    with torch.no_grad():
        return model.test_step(Samples(cfg)(trained / IMAGE))[0]


@pytest.mark.parametrize('task, kind', [
    ('detection', 'static'), ('detection', 'dynamic'), ('segmentation', 'dynamic')])
def test_mmdeploys_calls_fold_export_and_run(trained, tmp_path, task, kind):
    from mmdeploy.apis import inference_model, torch2onnx
    deploy_cfg = str(DEPLOY / f'{task}_onnxruntime_{kind}.py')
    model_cfg, image = str(trained / f'{task}.py'), str(trained / IMAGE)
    torch2onnx(image, str(tmp_path), 'end2end.onnx', deploy_cfg, model_cfg,
               str(trained / f'{task}.pth'), 'cpu')
    graph = onnx.load(str(tmp_path / 'end2end.onnx')).graph
    assert 'BatchNormalization' not in {node.op_type for node in graph.node}
    assert [i.name for i in graph.input] == ['input']
    dynamic = [bool(d.dim_param) for d in graph.input[0].type.tensor_type.shape.dim]
    assert dynamic == [kind == 'dynamic', False] + [kind == 'dynamic'] * 2
    result = inference_model(model_cfg, deploy_cfg, [str(tmp_path / 'end2end.onnx')], image,
                             'cpu')[0]
    truth = expected(trained, task)
    if task == 'detection':
        values, count, _ = compare_boxes(truth.pred_instances, result.pred_instances, .03, FLOAT32)
        assert values['boxes'] >= FLOAT32.iou and values['scores'] <= FLOAT32.score
        assert values['labels'] == 0 and count > 20
    else:
        values, _ = compare_labels(truth.pred_sem_seg.data, result.pred_sem_seg.data)
        assert values['label map'] >= FLOAT32.pixels


def test_the_last_class_competes_for_nms_pre(trained, tmp_path):
    """mmdeploy's own rewrite selects anchors without this class, so its boxes would be lost."""
    cfg = Config.fromfile(trained / 'detection.py')
    cfg.model.test_cfg.nms_pre = 12
    cfg.dump(tmp_path / 'few.py')
    found = export_model(tmp_path / 'few.py', trained / 'detection.pth', 'onnxruntime',
                         trained / IMAGE, tmp_path / 'out')
    assert found.parity.problems() == []


@pytest.mark.parametrize('options', [dict(dynamic=['size']), dict(batch_size=2)])
def test_the_tools_options_reach_mmdeploy(trained, tmp_path, options):
    result = export_model(trained / 'detection.py', trained / 'detection.pth', 'onnxruntime',
                          trained / IMAGE, tmp_path, **options)
    shape = onnx.load(str(result.path)).graph.input[0].type.tensor_type.shape.dim
    if 'batch_size' in options:
        assert [d.dim_value for d in shape] == [2, 3, 64, 96]
        return
    assert [bool(d.dim_param) for d in shape] == [False, False, True, True]
    cfg, model = load_trained(trained / 'detection.py', trained / 'detection.pth',
                              {OTHER_SIZE: (128, 160)})
    samples = Samples(cfg)
    exported = ExportedModel.load(result.path, model.data_preprocessor)
    with torch.no_grad():
        truth = model.test_step(samples(trained / IMAGE))[0].pred_instances
    found = exported.test_step(samples(trained / IMAGE))[0].pred_instances
    values, count, _ = compare_boxes(truth, found, .03, FLOAT32)
    assert values['boxes'] >= FLOAT32.iou and values['labels'] == 0 and count > 20


def test_half_of_a_segmentor(trained, tmp_path):
    result = export_model(trained / 'segmentation.py', trained / 'segmentation.pth',
                          'onnxruntime', trained / IMAGE, tmp_path, half=True)
    kinds = {tensor.data_type for tensor in onnx.load(str(result.path)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds and result.bytes < 7e6
    assert .9 < result.parity.worst['label map'][0]


@pytest.mark.parametrize('task, options', [
    ('segmentation', {}), ('detection', dict(dynamic=['batch', 'size'], half=True))])
def test_tensorrt_gets_a_checked_graph(trained, tmp_path, task, options):
    """TensorRT was not run here: this checks the graph, its operators and the config's shapes."""
    result = export_model(trained / f'{task}.py', trained / f'{task}.pth', 'tensorrt',
                          trained / IMAGE, tmp_path, **options)
    graph = onnx.load(str(result.path)).graph
    plugins = [node.op_type for node in graph.node if node.domain == 'mmdeploy']
    assert plugins == (['TRTBatchedNMS'] if task == 'detection' else [])
    assert not {'BatchNormalization', 'NonMaxSuppression', 'If', 'Loop'} & {
        node.op_type for node in graph.node}
    assert result.parity is None and 'not run here' in str(result)
    cfg = Config.fromfile(result.path.with_suffix('.deploy.py'))
    shapes = cfg.backend_config.model_inputs[0].input_shapes.input
    assert shapes.opt_shape[2:] != [64, 96] if options else shapes.opt_shape == [1, 3, 64, 96]
    assert shapes.min_shape == shapes.max_shape or options
    assert cfg.backend_config.common_config.fp16_mode is bool(options)
