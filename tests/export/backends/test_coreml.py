"""Check the content of Core ML packages, and compute their network by MIL's definitions.

Apple's runtime is not available, so these tests do not show how Core ML itself predicts.
"""

import pytest
import small_exports
import torch

for _module in ('mmdet', 'mmseg', 'coremltools'):
    pytest.importorskip(_module, reason=f'{_module} is not installed (make env-deploy)')

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.backends import coreml_format  # noqa: E402
from mobileone_mm.export.parity import FLOAT16  # noqa: E402
from mobileone_mm.export.running import mil  # noqa: E402

NETWORK = {'sub', 'mul', 'conv', 'relu', 'reduce_mean', 'sigmoid', 'concat'}
OPERATORS = dict(
    detection=NETWORK | {'clip', 'transpose', 'reshape', 'softmax', 'slice_by_index', 'add', 'exp',
                         'stack'},
    segmentation=NETWORK | {'upsample_bilinear', 'reduce_argmax', 'slice_by_index'})


exported = small_exports.exported('coreml')


def describe(feature):
    """Name, kind and the relevant fields of the kind."""
    kind = feature.type.WhichOneof('Type')
    if kind == 'imageType':
        image = feature.type.imageType
        return feature.name, kind, (image.height, image.width), mil.takes_rgb(feature)
    if kind == 'multiArrayType':
        array = feature.type.multiArrayType
        name = array.ArrayDataType.Name(array.dataType)
        ranges = [(r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges]
        return feature.name, name, tuple(array.shape) or tuple(ranges)
    return feature.name, kind, feature.type.isOptional


def test_inputs_outputs_and_operators(exported):
    _, _, job, path = exported
    spec, program = mil.read_network(path)
    inputs = [describe(feature) for feature in spec.description.input]
    outputs = [describe(feature) for feature in spec.description.output]
    assert inputs[0] == ('image', 'imageType', small_exports.SIZE, True)
    if job.task == 'detection':
        assert inputs[1:] == [('iouThreshold', 'doubleType', True),
                              ('confidenceThreshold', 'doubleType', True)]
        assert outputs == [('confidence', 'FLOAT32', ((0, -1), (3, 3))),
                           ('coordinates', 'FLOAT32', ((0, -1), (4, 4)))]
    else:
        assert inputs[1:] == [] and outputs == [('labels', 'INT32', small_exports.SIZE)]
    assert spec.specificationVersion == 6  # iOS 15
    found = {op.op_type for op in mil.operations(program)}
    assert found <= OPERATORS[job.task] and 'batch_norm' not in found and 'conv' in found


def test_the_suppression_stage_is_the_models(exported):
    model, _, job, path = exported
    spec, _ = mil.read_network(path)
    if job.task == 'segmentation':
        assert spec.WhichOneof('Type') == 'mlProgram'
        return
    network, stage = spec.pipeline.models
    nms = stage.nonMaximumSuppression
    assert [describe(f)[:2] for f in network.description.output] == [
        (nms.confidenceInputFeatureName, 'FLOAT32'), (nms.coordinatesInputFeatureName, 'FLOAT32')]
    assert (nms.iouThreshold, nms.confidenceThreshold) == (
        model.test_cfg.nms.iou_threshold, model.test_cfg.score_thr)
    assert nms.pickTop.perClass
    assert list(nms.stringClassLabels.vector) == ['RBC', 'WBC', 'Platelets']


def test_each_weight_is_the_torch_models(exported):
    _, _, job, path = exported
    expected = {f'model_{name}'.replace('.', '_'): value
                for name, value in job.model.state_dict().items()}
    _, program = mil.read_network(path)
    convs = [op for op in mil.operations(program) if op.op_type == 'conv']
    assert len(convs) > 15
    for op in convs:
        weight = torch.from_numpy(op.inputs['weight'].val)
        assert torch.equal(weight, expected[op.inputs['weight'].name])
        bias = torch.from_numpy(op.inputs['bias'].val)
        assert torch.equal(bias, expected[op.inputs['weight'].name[:-len('weight')] + 'bias'])


def test_the_network_computes_what_the_graph_computes(exported):
    _, _, job, path = exported
    graph, rgb = coreml_format.build_graph(job)
    image = job.image.flip(1) if rgb else job.image
    with torch.no_grad():
        expected = graph(image)
    expected = expected if isinstance(expected, tuple) else (expected, )
    actual = mil.run_program(mil.read_network(path)[1], image)
    assert list(actual) == list(graph.output_names)
    for tensor, value in zip(expected, actual.values()):
        torch.testing.assert_close(value.to(tensor.dtype), tensor, rtol=1e-4, atol=1e-5)


def test_it_answers_as_the_model(exported):
    model, _, _, path = exported
    result = small_exports.parity(model, path)
    result.check()
    assert result.objects > 20


def test_half_computes_the_maps_in_half_and_the_boxes_in_full(exported, tmp_path):
    model, cfg, _, _ = exported
    job = small_exports.job('coreml', model, cfg, tmp_path, half=True)
    path = coreml_format.export(job)
    types = {(op.op_type, op.outputs[0].dtype.__name__)
             for op in mil.operations(mil.read_network(path)[1])}
    assert ('conv', 'fp16') in types and ('conv', 'fp32') not in types
    if job.task == 'detection':
        assert ('exp', 'fp32') in types and ('exp', 'fp16') not in types
    small_exports.parity(model, path, FLOAT16).check()


def test_parity_catches_a_lost_bias(exported, tmp_path):
    small_exports.check_a_lost_bias_is_found('coreml', *exported[:2], tmp_path)


def test_an_unexpected_operator_is_named(exported, monkeypatch):
    monkeypatch.delitem(mil.OPERATORS, 'conv')
    _, _, job, path = exported
    with pytest.raises(ExportError, match='unexpected Core ML operator conv'):
        mil.run_program(mil.read_network(path)[1], job.image)


def test_batches_are_refused(exported, tmp_path):
    small_exports.check_batches_are_refused('coreml', *exported[:2], tmp_path)
