"""Quantization after training: equalization keeps the outputs, and 8 bits add limited noise."""

import copy

import export_models
import numpy as np
import pytest
import small_exports
import torch

from mobileone_mm import MobileOne
from mobileone_mm.export.int8.equalize import chain, equalize
from mobileone_mm.export.int8.layers import kept_layers
from mobileone_mm.folding.reparameterize import reparameterize

ARCH = dict(small_exports.ARCH, num_blocks=(1, 2, 3, 1))


@pytest.fixture
def backbone(randomize):
    """A folded backbone whose channels have very different ranges."""
    return reparameterize(randomize(MobileOne(ARCH, out_indices=(1, 3))).eval()).double()


def ranges(layer):
    weight = layer.reparam_conv.weight.abs()
    return weight.amax((1, 2, 3))


def test_equalization_changes_no_output(backbone):
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected, before = backbone(image), copy.deepcopy(backbone)
    names = equalize(backbone)
    for wanted, found in zip(expected, backbone(image)):
        assert (wanted - found).abs().max() / wanted.abs().max() < 1e-12
    for name in names:
        layer = backbone.get_submodule(name).reparam_conv
        assert not torch.allclose(layer.weight, before.get_submodule(name).reparam_conv.weight)


def test_equalization_balances_a_layers_output_with_its_readers_input(backbone):
    equalize(backbone)
    for _, layer, following in chain(backbone):
        reader = following.reparam_conv.weight.abs()
        reader = reader.amax((1, 2, 3)) if following.reparam_conv.groups > 1 else \
            reader.amax((0, 2, 3))
        torch.testing.assert_close(ranges(layer), reader, rtol=.15, atol=0)


def test_what_others_read_or_scale_is_left_alone(backbone):
    blocks = [name for name, module in backbone.named_modules() if hasattr(module, 'reparam_conv')]
    names = equalize(backbone)
    tapped = ['stage2.3', 'stage4.1']
    with_se = [name for name in blocks if hasattr(backbone.get_submodule(name).se, 'reduce')]
    assert with_se and set(names) == set(blocks) - set(tapped) - set(with_se)


def test_an_unfolded_backbone_is_refused():
    with pytest.raises(ValueError, match='not folded'):
        equalize(MobileOne(ARCH))


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    for module in ('mmdet', 'onnx', 'onnxruntime'):
        pytest.importorskip(module, reason=f'{module} is not installed (make env-deploy)')
    from mobileone_mm.export.backends import onnx_format
    folder = tmp_path_factory.mktemp('int8')
    model, cfg = small_exports.detector()
    images = [export_models.images(1, *small_exports.SIZE, seed=s).float().numpy()
              for s in range(6)]
    paths = []
    for equalized in (False, True):
        job = small_exports.job('onnx', model, cfg, folder / str(equalized))
        if equalized:
            equalize(job.model.backbone)
        paths.append(onnx_format.export(job))
    return paths, images, folder


def test_first_and_last_layers_stay_in_float32(exported):
    from mobileone_mm.export.int8.int8_onnx import graph_nodes, layer_errors, quantize_onnx
    (source, _), images, folder = exported
    keep = kept_layers(graph_nodes(source), ['first', 'last'])
    assert len([name for name in keep if 'bbox_head' in name]) == 8 and len(keep) == 9
    assert any('stage0' in name for name in keep)
    errors = layer_errors(source, quantize_onnx(source, folder / 'a.onnx', images, keep), images)
    assert [error.name for error in errors if not error.quantized] == keep
    assert errors[0].sqnr_db > 100  # nothing before it is quantized
    assert all(error.sqnr_db < 60 for error in errors if error.quantized)


def test_equalization_and_channel_scales_reduce_the_noise(exported):
    from mobileone_mm.export.int8.int8_onnx import layer_errors, quantize_onnx
    paths, images, folder = exported

    def noise(source, per_channel):
        target = quantize_onnx(source, folder / 'b.onnx', images, per_channel=per_channel)
        return np.mean([error.sqnr_db for error in layer_errors(source, target, images[:2])])
    assert noise(paths[0], True) > noise(paths[0], False) + 1
    assert noise(paths[1], False) > noise(paths[0], False) + 1


def test_openvino_quantizes_the_same_layers(exported):
    pytest.importorskip('nncf', reason="nncf is not installed: pip install 'mobileone_mm[int8]'")
    from mobileone_mm.export.int8.int8_onnx import graph_nodes
    from mobileone_mm.export.int8.int8_openvino import quantize_openvino, quantized_layers
    from mobileone_mm.export.running.runtimes import load_runtime
    (source, _), images, folder = exported
    keep = kept_layers(graph_nodes(source), ['first', 'last'])
    target = quantize_openvino(source, folder / 'c.xml', images, keep)
    convs = len(_convolutions(source))
    assert quantized_layers(target) == convs - len(keep)
    scores = load_runtime('openvino', target)(images[0])[1]
    assert np.isfinite(scores).all() and scores.max() > 0


def _convolutions(path):
    import onnx
    return [node for node in onnx.load(str(path)).graph.node if node.op_type == 'Conv']
