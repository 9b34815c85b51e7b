"""8 bits for LiteRT and ExecuTorch: the files' predictions and the table of their layers."""

import export_models
import numpy as np
import pytest
import small_exports
import torch

from mobileone_mm.export.running.runtimes import load_runtime

pytest.importorskip('mmdet', reason='mmdet is not installed')
PACKAGES = dict(litert=('litert_torch', 'ai_edge_quantizer'), executorch=('executorch', 'torchao'))
IMAGES = [export_models.images(1, *small_exports.SIZE, seed=s).float().numpy() for s in range(4)]


def quantize(backend, folder, task='detector', images=IMAGES, keep=('first', )):
    """The file, what is left of the float32 graph, and the table."""
    from mobileone_mm.export.backends.phones import phone_graph
    from mobileone_mm.export.int8.layers import convolutions_of
    for package in PACKAGES[backend]:
        pytest.importorskip(package, reason=f'{package} is not installed (make test-deploy)')
    folder.mkdir(exist_ok=True)
    job = small_exports.job(backend, *getattr(small_exports, task)(), folder / 'float32')
    target = folder / f'int8{job.out.suffix}'
    names = convolutions_of(job.model, job.image)
    if backend == 'executorch':
        from mobileone_mm.export.int8.int8_executorch import quantize_executorch
        graph = phone_graph(job)[0]
        return target, graph, quantize_executorch(
            graph, target, images, IMAGES[:2], keep, names)
    from mobileone_mm.export.int8.int8_litert import quantize_litert
    source = small_exports.export(job)
    layers = quantize_litert(source, target, images, IMAGES[:2], keep, names)
    return target, phone_graph(job)[0], layers


def decibels(backend, path, graph):
    """Signal-to-noise ratio of the file's outputs relative to PyTorch's in float32."""
    names = graph.output_names if backend == 'executorch' else sorted(graph.output_names)
    found = dict(zip(names, load_runtime(backend, path, 1)(IMAGES[0])))
    with torch.no_grad():
        expected = dict(zip(graph.output_names, graph(torch.from_numpy(IMAGES[0]))))
    return {name: 10 * np.log10(np.square(value.numpy()).sum() / np.square(
        value.numpy() - found[name]).sum()) for name, value in expected.items()
        if value.is_floating_point()}


@pytest.mark.parametrize('backend', PACKAGES)
def test_the_file_answers_as_pytorch_and_the_table_lists_its_layers(backend, tmp_path):
    path, graph, layers = quantize(backend, tmp_path)
    convolutions = [m for m in graph.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {layer.name for layer in layers} == {  # the same names in every format
        name for name, m in graph.model.named_modules() if isinstance(m, torch.nn.Conv2d)}
    assert len(layers) == len(convolutions)
    assert [layer.quantized for layer in layers] == [False] + [True] * (len(layers) - 1)
    assert layers[0].sqnr_db > 100 and 'stage0' in layers[0].name  # in float32, like its input
    assert all(layer.sqnr_db < 60 for layer in layers[1:] if '.se.' not in layer.name)
    answers = decibels(backend, path, graph)
    assert answers['scores'] > 20 and answers['boxes'] > 25
    # A layer can be kept by its name in the table.
    name = layers[3].name
    _, _, layers = quantize(backend, tmp_path / 'named', keep=[name])
    assert [layer.name for layer in layers if not layer.quantized] == [name]


@pytest.mark.parametrize('task', ['detector', 'segmentor'])
def test_litert_names_a_layer_after_its_own_module(tmp_path, task):
    """Its file has only parts of the names; the number of channels tells layers apart."""
    for package in PACKAGES['litert']:
        pytest.importorskip(package, reason=f'{package} is not installed (make test-litert)')
    from mobileone_mm.export.int8.int8_litert import _Graph
    from mobileone_mm.export.int8.layers import convolutions_of
    job = small_exports.job('litert', *getattr(small_exports, task)(), tmp_path / 'float32')
    names = convolutions_of(job.model, job.image)
    graph = _Graph(small_exports.export(job).read_bytes(), names)
    assert list(graph.outputs) == names
    assert [graph.details[index]['shape'][-1] for index in graph.outputs.values()] == [
        job.model.get_submodule(name).out_channels for name in names]


@pytest.mark.parametrize('backend', PACKAGES)
def test_a_segmentor_in_8_bits(backend, tmp_path, monkeypatch):
    # In a random network, squeeze-and-excitation drowns the maps in noise.
    monkeypatch.setattr(small_exports, 'ARCH', dict(small_exports.ARCH, num_se_blocks=(0, ) * 4))
    path, graph, _ = quantize(backend, tmp_path, 'segmentor')
    assert decibels(backend, path, graph)['logits'] > 10


@pytest.mark.parametrize('backend', PACKAGES)
def test_ranges_of_bright_images_are_noticed(backend, tmp_path):
    """The planted fault: ranges from other images make the steps too large."""
    bright = [image * 50 for image in IMAGES]
    path, graph, layers = quantize(backend, tmp_path, images=bright)
    assert decibels(backend, path, graph)['scores'] < 20
    assert np.median([layer.sqnr_db for layer in layers]) < 10


def test_litert_loads_a_layer_that_is_always_0(tmp_path):
    """As in squeeze-and-excitation; the scale of such a layer's output would be 0."""
    for package in PACKAGES['litert']:
        pytest.importorskip(package, reason=f'{package} is not installed (make test-litert)')
    from mobileone_mm.export.backends.litert_format import write_litert
    from mobileone_mm.export.int8.int8_litert import quantize_litert
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(),
                                  torch.nn.Conv2d(8, 4, 1)).eval()
    with torch.no_grad():
        network[0].bias.fill_(-1e6)
        network[2].bias[:] = torch.arange(4.)
    image = torch.from_numpy(IMAGES[0])
    write_litert(network, image, tmp_path / 'float32.tflite', ['map'])
    quantize_litert(tmp_path / 'float32.tflite', tmp_path / 'int8.tflite', IMAGES, IMAGES[:1])
    found, = load_runtime('litert', tmp_path / 'int8.tflite', 1)(IMAGES[0])
    np.testing.assert_allclose(found[0, :, 0, 0], np.arange(4), atol=.02)
