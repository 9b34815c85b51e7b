"""Run the cells of docs/tutorial.ipynb in order, like Jupyter, in a fresh process."""

import json
import os
import subprocess
import sys

import pytest
from paths import ROOT

pytest.importorskip('mmdet')

CHECKS = """
from pathlib import Path
assert difference < 2e-6 and numbers[1] < numbers[0] and inferencer.model.backbone.deploy
assert Image.open(next(Path('out/vis').iterdir())).size == Image.open(picture).size
"""


def test_notebook_runs(tmp_path):
    notebook = json.loads((ROOT / 'docs/tutorial.ipynb').read_text())
    assert not any(cell.get('outputs') for cell in notebook['cells'])  # committed without outputs
    code = [''.join(cell['source']) for cell in notebook['cells'] if cell['cell_type'] == 'code']
    (tmp_path / 'tutorial.py').write_text('\n\n'.join([*code, CHECKS]))
    done = subprocess.run(
        [sys.executable, 'tutorial.py'], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'boxes, the best score is' in done.stdout
