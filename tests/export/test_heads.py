"""Export segmentors with a pooling pyramid whose cells do not divide the map."""

import export_models
import pytest
import small_exports

for _name in ('mmseg', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.export.formats import FORMATS  # noqa: E402
from mobileone_mm.export.pipeline import export_model  # noqa: E402

PACKAGES = dict(onnxruntime='mmdeploy', coreml='coremltools', litert='litert_torch')
HEADS = dict(psp=dict(type='PSPHead', in_channels=64, in_index=3),
             uper=dict(type='UPerHead', in_channels=[16, 32, 32, 64], in_index=[0, 1, 2, 3]))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('heads')
    for name, head in HEADS.items():
        cfg = export_models.config(export_models.SEGMENTATION)
        cfg.model.backbone.update(arch=small_exports.ARCH, out_indices=(0, 1, 2, 3))
        cfg.model.decode_head = dict(head, channels=16, num_classes=2, pool_scales=(1, 2, 3, 6),
                                     norm_cfg=dict(type='BN'), align_corners=False)
        cfg.model.auxiliary_head = None
        cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
        export_models.save(export_models.model(cfg), folder / f'{name}.pth')
        cfg.dump(folder / f'{name}.py')
    export_models.write_pictures(folder / 'pictures', 1)
    return folder


@pytest.mark.parametrize('backend', [name for name, f in FORMATS.items() if f.runtime])
@pytest.mark.parametrize('head', HEADS)
def test_pooling_pyramids_are_exported(trained, tmp_path, head, backend):
    package = PACKAGES.get(backend, backend)
    pytest.importorskip(package, reason=f'needs {package} (make test-deploy)')
    result = export_model(trained / f'{head}.py', trained / f'{head}.pth', backend,
                          trained / 'pictures/0.png', tmp_path)
    assert result.parity.worst['maps'][0] < 1e-3
