"""Run exported programs in ExecuTorch and compare them with their PyTorch models."""

import pytest
import small_exports
import torch

for _module in ('mmdet', 'mmseg', 'executorch'):
    pytest.importorskip(_module, reason=f'{_module} is not installed (make env-deploy)')

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.backends.phones import raw_outputs  # noqa: E402
from mobileone_mm.export.interface import Interface  # noqa: E402
from mobileone_mm.export.running.exported_model import ExportedModel  # noqa: E402
from mobileone_mm.export.running.prediction_maps import match_maps  # noqa: E402
from mobileone_mm.export.running.runtimes import load_runtime  # noqa: E402

exported = small_exports.exported('executorch')


def test_executorch_answers_as_the_model(exported):
    model, _, job, path = exported
    result = small_exports.parity(model, path)
    result.check()
    assert result.objects > 20 and not Interface.read(path).normalized


def test_xnnpack_takes_every_convolution(exported):
    """Operators that XNNPACK leaves out run in reference code, several times slower."""
    assert b'convolution' not in exported[3].read_bytes()


def test_outputs_before_suppression_are_compared(exported):
    model, _, job, path = exported
    file = ExportedModel.load(path, model.data_preprocessor)
    outputs = file.run(job.image)
    assert match_maps(*raw_outputs(model, job.image, outputs, file.interface)) < 1e-4
    name = 'boxes' if job.task == 'detection' else 'logits'
    outputs[file.interface.output_names.index(name)][0, 0, 0] += 1e3
    assert match_maps(*raw_outputs(model, job.image, outputs, file.interface)) > .1


def test_parity_catches_a_lost_bias(exported, tmp_path):
    small_exports.check_a_lost_bias_is_found('executorch', *exported[:2], tmp_path)


def test_its_latency_is_of_a_right_conversion(tmp_path):
    small_exports.check_latency_is_of_a_right_conversion('executorch', tmp_path)


def test_batches_are_refused(exported, tmp_path):
    small_exports.check_batches_are_refused('executorch', *exported[:2], tmp_path)


def test_other_files_are_reported(tmp_path):
    (tmp_path / 'x.pte').write_text('no program')
    with pytest.raises(ExportError, match='executorch cannot load .*x.pte'):
        load_runtime('executorch', tmp_path / 'x.pte')


def test_the_three_outputs_of_react_native(tmp_path):
    """Boxes (P, 4), scores (P, ) and labels (P, ), for an image in RGB, 0 to 1."""
    model, cfg = small_exports.detector()
    job = small_exports.job('executorch', model, cfg, tmp_path)
    job.form = 'react-native'
    runtime = load_runtime('executorch', small_exports.export(job))
    boxes, scores, labels = runtime((job.image.flip(1) / 255).numpy())
    expected = _best_by_mmdet(model, job.image)
    assert {item.dtype.name for item in (boxes, scores, labels)} == {'float32'}
    assert (labels == expected[2].numpy()).all() and len(set(labels.tolist())) == 3
    assert abs(scores - expected[1].numpy()).max() < 1e-5
    assert abs(boxes - expected[0].numpy()).max() < 1e-3  # of 100 pixels


@torch.no_grad()
def _best_by_mmdet(model, image):
    """The same, with mmdet's own preprocessor, anchors and coder."""
    inputs = model.data_preprocessor(dict(inputs=[image[0].byte()]))['inputs']
    head = model.bbox_head
    class_maps, delta_maps = head(model.extract_feat(inputs))
    anchors = torch.cat(head.prior_generator.grid_priors(
        [x.shape[-2:] for x in delta_maps], device='cpu'))
    logits, deltas = (torch.cat([x.permute(0, 2, 3, 1).reshape(-1, 4) for x in maps])
                      for maps in (class_maps, delta_maps))  # three classes and the background
    boxes = head.bbox_coder.decode(anchors, deltas, small_exports.SIZE)
    scores, labels = logits.softmax(-1)[:, :-1].max(-1)
    return boxes, scores, labels
