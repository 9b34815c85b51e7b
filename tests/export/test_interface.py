"""The JSON file next to an exported model, which may come from anywhere."""

import json
from importlib.metadata import version

import export_models
import pytest
from mmengine.config import Config

from mobileone_mm.export import ExportError
from mobileone_mm.export.description import describe_outputs, describe_resize, versions
from mobileone_mm.export.interface import Interface
from mobileone_mm.export.outside_the_graph.decode_settings import thresholds

OUTPUTS = ['boxes', 'scores', 'labels']
GOOD = dict(
    backend='onnx', task='detection', shape=[1, 3, 32, 32], dynamic=[], half=False,
    precision='f32', input=dict(tensor='image', layout='NCHW', normalization='graph'),
    resize=dict(size=[32, 32]), outputs=describe_outputs('detection', OUTPUTS, OUTPUTS, 'NCHW'),
    postprocess=[], classes=['a'], palette=[], thresholds=dict(score_thr=.1), decode={},
    versions={}, format=2)
OLD = dict(backend='onnx', task='detection', normalized=False, shape=[1, 3, 32, 32], dynamic=[],
           half=False, outputs=OUTPUTS, classes=['a'], decode={})  # as in version 0.2.0


def test_what_an_export_writes_is_read(tmp_path):
    interface = Interface(**{**GOOD, 'shape': (1, 3, 32, 32)})
    interface.write(tmp_path / 'x.onnx')
    assert Interface.read(tmp_path / 'x.onnx') == interface
    assert interface.output_names == OUTPUTS and not interface.normalized


@pytest.mark.parametrize('change', [
    dict(backend='os'), dict(backend='..commands.demo'), dict(backend=[]), dict(task='x'),
    dict(shape=[1, 3]), dict(shape='abcd'), dict(shape=5), dict(dynamic='batch'), dict(classes=[1]),
    dict(outputs={}), dict(outputs=OUTPUTS), dict(outputs=[dict(name=1)]), dict(decode=[]),
    dict(more=1), dict(half=0), dict(precision='f8'), dict(input={}), dict(input=[]),
    dict(input=dict(normalization='app', layout='HWC')), dict(postprocess=['rm']),
    dict(postprocess=None), dict(palette=None), dict(thresholds=1), dict(resize=None),
    dict(versions='1'), dict(form='x')])
def test_anything_else_is_refused(change, tmp_path):
    (tmp_path / 'x.json').write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ExportError, match='does not describe an exported model'):
        Interface.read(tmp_path / 'x.onnx')


@pytest.mark.parametrize('text', ['', '[', '[]', 'null', '{}', '[' * 100_000])
def test_what_is_no_json_of_ours(text, tmp_path):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ExportError, match='does not describe an exported model'):
        Interface.read(tmp_path / 'x.onnx')


@pytest.mark.parametrize('fields, number', [(OLD, '1'), (dict(GOOD, format=3), '3')])
def test_other_formats_ask_for_another_export(fields, number, tmp_path):
    (tmp_path / 'x.json').write_text(json.dumps(fields))
    with pytest.raises(ExportError, match=f'has format {number}.*export the model again'):
        Interface.read(tmp_path / 'x.onnx')


def resize(*transforms):
    dataset = dict(pipeline=[dict(type='LoadImageFromFile'), *transforms,
                             dict(type='PackDetInputs')])
    return describe_resize(Config(dict(test_dataloader=dict(dataset=dataset))))


def test_the_resize_rule_is_the_pipelines():
    assert resize() == dict(
        size=[], keep_ratio=True, interpolation='', padding=None, others=[])
    assert resize(dict(type='mmdet.Resize', scale=(320, 240), keep_ratio=False)) == dict(
        size=[320, 240], keep_ratio=False, interpolation='bilinear', padding=None, others=[])
    assert resize(dict(type='Resize', scale=64, keep_ratio=True, interpolation='bicubic'),
                  dict(type='Pad', size_divisor=32), dict(type='CenterCrop')) == dict(
        size=[64, 64], keep_ratio=True, interpolation='bicubic', padding=dict(size_divisor=32),
        others=['CenterCrop'])
    assert resize(dict(type='Resize', scale_factor=.5))['others'] == ['Resize']


def test_thresholds_of_one_stage_of_two_and_of_none():
    one = dict(score_thr=.02, nms=dict(iou_threshold=.45), max_per_img=200, nms_pre=1000)
    expected = dict(score_thr=.02, iou_threshold=.45, max_per_img=200, nms_pre=1000,
                    min_bbox_size=-1)
    assert thresholds(one) == thresholds(dict(rpn=dict(nms_pre=5), rcnn=one)) == expected
    assert thresholds(None)['score_thr'] is None


def test_versions_are_those_installed():
    found = versions('tensorrt')
    assert found['torch'] == version('torch') and 'mobileone_mm' in found
    assert set(found) == {'mobileone_mm', 'torch', 'onnx', 'mmdeploy'}


def test_every_config_says_how_it_resizes():
    for path in (export_models.DETECTION, export_models.SEGMENTATION):
        found = describe_resize(Config.fromfile(path))
        assert not found['others'] and found['padding'] is None
