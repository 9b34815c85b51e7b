"""The kernels compiled for GPUs that are not there."""

import json
import os
import subprocess
import sys

import pytest
from paths import ROOT

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')

SMALLEST_SHARED_MEMORY = {75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}


@pytest.mark.parametrize('capability', SMALLEST_SHARED_MEMORY)
def test_no_kernel_spills_or_asks_for_more_shared_memory_than_there_is(capability, tmp_path):
    """Of all kinds of blocks, layouts and dtypes, by the ptxas that Triton brings."""
    env = {**os.environ, 'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)}
    script = ROOT / 'tests' / 'helpers' / 'compile_ahead.py'
    done = subprocess.run([sys.executable, '-W', 'ignore', str(script), str(capability)], env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({row['kernel'] for row in rows}) >= 14
    bad = [row for row in rows
           if row['spills'] or row['shared'] > SMALLEST_SHARED_MEMORY[capability]]
    assert not bad, bad
