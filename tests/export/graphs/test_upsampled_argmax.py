"""Compare upsampling with matrix products and the best class with PyTorch's interpolation."""

import pytest
import torch
import torch.nn.functional as F

from mobileone_mm.export.graphs import upsampled_argmax as upsampled_argmax_module
from mobileone_mm.export.graphs.trace import export_onnx
from mobileone_mm.export.graphs.upsampled_argmax import (
    PICKS,
    WEIGHT_STEPS,
    interpolation_matrix,
    upsampled_argmax,
)
from mobileone_mm.export.running.runtimes import load_runtime

SIZES = [((5, 7), (40, 33)), ((32, 32), (512, 512)), ((1, 3), (1, 9)), ((6, 6), (4, 5))]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(('inner', 'outer'), SIZES)
def test_matrix_interpolates(inner, outer, align_corners):
    maps = torch.randn(2, 3, *inner)
    expected = F.interpolate(maps, size=outer, mode='bilinear', align_corners=align_corners)
    rows, columns = (interpolation_matrix(i, o, align_corners) for i, o in zip(inner, outer))
    assert torch.allclose(rows @ maps @ columns.T, expected, atol=3e-6)


@pytest.mark.parametrize('pick', PICKS)
@pytest.mark.parametrize('align_corners', [False, True])
def test_labels_are_those_of_interpolation_and_argmax(pick, align_corners):
    logits = torch.randn(2, 9, 6, 5)
    size = (48, 40)
    scores = F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)
    labels = upsampled_argmax(logits, size, align_corners, pick)
    assert labels.dtype == torch.int64
    best = scores.max(1)[0]
    # Rounding may decide between classes that tie.
    picked = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    assert (best - picked).max() < 3e-6
    assert (labels == scores.argmax(1)).float().mean() > .999


@pytest.mark.parametrize('align_corners, share', [(False, .99), (True, .98)])
@pytest.mark.parametrize('classes', [33, 150, 256])
def test_the_largest_key_is_the_best_class_up_to_its_steps(align_corners, share, classes):
    """A step is one part in ``steps`` of the range; other strides also round the weights."""
    logits = torch.randn(2, classes, 6, 5) * torch.tensor([1., 50.]).view(2, 1, 1, 1)
    size = (96, 80)
    scores = F.interpolate(logits, size=size, mode='bilinear', align_corners=align_corners)
    labels = upsampled_argmax(logits, size, align_corners, 'max')
    assert labels.dtype == torch.int64
    weight_steps = WEIGHT_STEPS if align_corners else 2 * 16
    limit = 1.01 / (2 ** 24 / (classes * weight_steps) - 1) + align_corners / WEIGHT_STEPS
    loss = scores.max(1)[0] - scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    span = logits.amax((1, 2, 3)) - logits.amin((1, 2, 3))
    assert (loss.amax((1, 2)) <= limit * span).all()
    assert (labels == scores.argmax(1)).float().mean() > share


@pytest.mark.parametrize('size, share', [((256, 256), .998), ((250, 248), .99)])
def test_the_largest_keys_of_smooth_8_bit_logits(size, share):
    """As of an int8 network for ADE20K at stride 16, and where no number of steps is exact."""
    logits = F.interpolate(torch.randn(1, 150, 5, 5), size=(16, 16), mode='bicubic')
    logits = (logits / logits.abs().max() * 127).round()
    expected = F.interpolate(logits, size=size, mode='bilinear').argmax(1)
    assert len(expected.unique()) > 30
    labels = upsampled_argmax(logits, size, pick='max')
    assert (labels == expected).float().mean() > share


@pytest.mark.parametrize('pick', PICKS)
def test_it_can_be_traced(pick):
    def labels(logits):
        return upsampled_argmax(logits, [8 * length for length in logits.shape[2:]], pick=pick)

    traced = torch.jit.trace(labels, torch.randn(1, 40, 4, 4))
    other = torch.randn(2, 40, 4, 4)
    assert torch.equal(traced(other), labels(other))


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('pick', PICKS)
def test_a_file_takes_other_sizes_than_the_traced_one(pick, runtime, monkeypatch, tmp_path):
    """A file has a fixed number of blocks: here 11, of 3 rows each. 8 rows leave 3 empty."""
    for name in ('onnx', runtime):
        pytest.importorskip(name, reason=f'needs {name} (make test-deploy)')

    class Labels(torch.nn.Module):
        def forward(self, logits):
            return upsampled_argmax(logits, [8 * length for length in logits.shape[2:]], pick=pick)

    images = [torch.randn(*size) for size in ((1, 40, 4, 4), (2, 40, 9, 7), (1, 40, 1, 3))]
    expected = [Labels()(image) for image in images]
    monkeypatch.setattr(upsampled_argmax_module, 'BLOCK', 3 * 32 * 40)
    path = export_onnx(Labels(), (images[0], ), tmp_path / 'labels.onnx', ['logits'], ['labels'],
                       {'logits': {0: 'n', 2: 'h', 3: 'w'}})
    run = load_runtime(runtime, path)
    for image, labels in zip(images, expected):
        assert (run(image.numpy())[0] == labels.numpy()).mean() > .999


def test_equal_logits_are_of_the_first_class():
    logits = torch.full((1, 40, 4, 4), 3.)
    assert not upsampled_argmax(logits, (8, 8), pick='max').any()
    logits[:, [17, 30]] = 4.
    assert (upsampled_argmax(logits, (8, 8), pick='max') == 17).all()


def test_the_other_alignment_fails():
    logits = torch.randn(2, 9, 6, 5)
    labels = upsampled_argmax(logits, (48, 40), align_corners=True)
    scores = F.interpolate(logits, size=(48, 40), mode='bilinear', align_corners=False)
    assert (labels == scores.argmax(1)).float().mean() < .99
