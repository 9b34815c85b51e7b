"""The metafiles list every config once, and separate the paper's numbers from ours."""

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from paths import ROOT

# arXiv 2206.04040, Tables 9 and 11, by config; S0 on COCO is not reported.
PAPER = {
    'top-1 of the paper': {
        f'mobileone_s{i}_in1k': top1 for i, top1 in enumerate([71.4, 75.9, 77.4, 78.1, 79.4])},
    'box AP of the paper': {
        f'ssdlite_mobileone_s{i}_coco': ap for i, ap in enumerate([25.7, 26.6, 27.3, 29.4], 1)},
    'mIoU of the paper': {
        **{f'deeplabv3_mobileone_s{i}_voc12aug': miou
           for i, miou in enumerate([73.7, 77.3, 77.9, 78.8, 80.1])},
        **{f'deeplabv3_mobileone_s{i}_ade20k': miou
           for i, miou in enumerate([33.1, 35.1, 35.7, 36.2, 38.2])}},
}


def load(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text())


METAFILES = load('model-index.yml')['Import']
MODELS = [model for path in METAFILES for model in load(path)['Models']]


def test_every_config_has_an_entry():
    listed = sorted(model['Config'] for model in MODELS)
    assert listed == sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/*.py')
                            if path.parent.name not in ('deploy', '_base_'))  # not a model
    assert sorted(METAFILES) == sorted(
        str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/metafile.yml'))


@pytest.mark.parametrize('path', METAFILES)
def test_fields(path):
    metafile = load(path)
    names = {collection['Name'] for collection in metafile['Collections']}
    assert all((ROOT / c['README']).is_file() for c in metafile['Collections'])
    for model in metafile['Models']:
        assert model['In Collection'] in names
        assert (ROOT / model['Config']).is_file()


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_epochs_are_the_configs(model):
    task = Path(model['Config']).parts[1]
    pytest.importorskip({'detection': 'mmdet', 'segmentation': 'mmseg'}.get(task, 'mmpretrain'))
    cfg = Config.fromfile(ROOT / model['Config'], import_custom_modules=False)
    assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs


def test_numbers_of_the_paper():
    for metric, expected in PAPER.items():
        found = {model['Name']: result['Metrics'][metric] for model in MODELS
                 for result in model.get('Results', []) if metric in result['Metrics']}
        assert found == expected
    # We have no numbers on the paper's data sets.
    for model in MODELS:
        for result in model.get('Results', []):
            if result['Dataset'] in ('COCO', 'Pascal VOC 2012', 'ADE20K', 'ImageNet-1k'):
                assert all(metric.endswith('of the paper') for metric in result['Metrics'])
