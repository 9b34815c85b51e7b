"""Run exported files in LiteRT and compare them with their PyTorch models."""

import pytest
import small_exports

for _module in ('mmdet', 'mmseg', 'litert_torch', 'ai_edge_litert'):
    pytest.importorskip(_module, reason=f'{_module} is not installed (make env-litert)')

from mobileone_mm.export.interface import Interface  # noqa: E402
from mobileone_mm.export.running.runtimes import load_runtime  # noqa: E402

exported = small_exports.exported('litert')


def test_litert_answers_as_the_model(exported):
    model, _, job, path = exported
    result = small_exports.parity(model, path)
    result.check()
    assert result.objects > 20
    interface = Interface.read(path)
    assert not interface.normalized
    runtime = load_runtime('litert', path)
    assert runtime.input_names == ['image'] and runtime.output_names == interface.output_names
    details = runtime.interpreter.get_input_details()[0]
    assert tuple(details['shape']) == (1, *small_exports.SIZE, 3)  # channels last


def test_parity_catches_a_lost_bias(exported, tmp_path):
    small_exports.check_a_lost_bias_is_found('litert', *exported[:2], tmp_path)


def test_its_latency_is_of_a_right_conversion(tmp_path):
    small_exports.check_latency_is_of_a_right_conversion('litert', tmp_path)


def test_batches_are_refused(exported, tmp_path):
    small_exports.check_batches_are_refused('litert', *exported[:2], tmp_path)
