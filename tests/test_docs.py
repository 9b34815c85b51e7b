"""README and docs: links lead to files, and numbers and versions match their sources."""

import doctest
import importlib
import json
import re

import pytest
import yaml
from paths import ROOT

from mobileone_mm.version import __version__

README = (ROOT / 'README.md').read_text()
PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md',
         *(path.relative_to(ROOT).as_posix() for path in ROOT.glob('docs/*.md')),
         *(path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/*/README.md'))]
LINK = re.compile(r'\]\((?!https?://|#|api/)([^)#]+)')  # the site generates api/


def broken_links(text, folder):
    links = LINK.findall(text) + re.findall(r'<img src="([^"]+)"', text)
    return [link for link in links if not (folder / link).exists()]


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_to_files(page):
    assert not broken_links((ROOT / page).read_text(), (ROOT / page).parent)


def test_a_planted_broken_link_is_found():
    text = 'see [there](docs/nowhere.md#part), [here](#part) and <img src="docs/no.png">'
    assert broken_links(text, ROOT) == ['docs/nowhere.md', 'docs/no.png']


def zoo(config):
    """The cells of a config's row in README's model zoo."""
    row, = re.findall(rf'^\| \[`{config}`\].*$', README, re.M)
    return [cell.strip() for cell in row.strip('|').split('|')][1:]


def paper(config):
    """The paper's number for a config, from its metafile; '-' if there is none."""
    for path in ROOT.glob('configs/*/metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            if model['Name'] == config:
                results = model.get('Results')
                return str(*results[0]['Metrics'].values()) if results else '-'
    raise AssertionError(f'{config} is in no metafile')


def measured(network):
    """The row of the folded network in ONNX Runtime in the latency study."""
    rows = json.loads((ROOT / 'docs/latency/latency.json').read_text())['rows']
    row, = (row for row in rows if row['network'] == network and row['form'] == 'folded'
            and row['backend'] == 'onnxruntime' and row['scope'] == 'whole')
    return row


@pytest.mark.parametrize('arch', ['s0', 's1', 's2', 's3', 's4'])
def test_the_zoo_of_detectors_has_the_measured_numbers(arch):
    box_map, params, macs, _, latency = zoo(f'ssdlite_mobileone_{arch}_coco')
    row = measured(f'ssdlite_mobileone_{arch}')
    assert box_map == paper(f'ssdlite_mobileone_{arch}_coco')
    assert params == f'{row["params"] / 1e6:.2f} M' and macs == f'{row["macs"] / 1e9:.2f} G'
    assert latency == f'{row["median_ms"]:.0f} ms'


@pytest.mark.parametrize('arch', ['s0', 's1', 's2', 's3', 's4'])
def test_the_zoo_of_segmentors_has_the_papers_numbers(arch):
    names = [f'deeplabv3_mobileone_{arch}_{data}' for data in ('ade20k', 'voc12aug')]
    assert zoo(names[0])[0] == ' / '.join(map(paper, names))
    assert zoo(names[0])[-1] == f'{measured(f"deeplabv3_mobileone_{arch}")["median_ms"]:.0f} ms'


def test_versions_agree():
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == __version__
    newest = re.search(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert newest.group(1) == __version__


def test_the_badge_names_the_supported_pythons():
    low, high = re.search(r'python_requires = >=3\.(\d+),<3\.(\d+)',
                          (ROOT / 'setup.cfg').read_text()).groups()
    assert f'3.{low} to 3.{int(high) - 1}' in (ROOT / 'docs/badges/python.svg').read_text()


EXAMPLES = ['mobileone_mm.backbones.mobileone', 'mobileone_mm.folding.reparameterize',
            'mobileone_mm.folding.maths', 'mobileone_mm.segmentation.deeplabv3_head']


@pytest.mark.parametrize('name', EXAMPLES)
def test_examples_in_docstrings(name):
    if 'segmentation' in name:
        pytest.importorskip('mmseg')
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted and not found.failed
