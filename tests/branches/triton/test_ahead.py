"""Compile the kernels for GPUs that are not there."""

import collections
import json
import os
import subprocess
import sys

import pytest
from paths import ROOT

pytest.importorskip('triton', reason='Triton is not installed here: see `make test-triton`')

SHARED_MEMORY = {75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
LAYOUTS = {90: ('nchw', 'nhwc')}
# Bytes a thread: Triton 3.7 spills 16 to 40 of `outer_sums` on GPUs before 90, 3.6 none.
MOST_SPILLED = 64
# Each takes about a second in a user's first step.
MOST_KERNELS = 20


@pytest.mark.parametrize('capability', SHARED_MEMORY)
def test_few_kernels_that_fit_the_gpu(capability, tmp_path):
    """Compile a step of S0 in float32 and one in float16, with Triton's own ptxas.

    No kernel spills many registers or needs more shared memory than a program has there.
    """
    env = {**os.environ, 'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': str(tmp_path)}
    script = ROOT / 'tests' / 'helpers' / 'compile_ahead.py'
    done = subprocess.run([sys.executable, '-W', 'ignore', str(script), str(capability),
                           *LAYOUTS.get(capability, ('nchw', ))], env=env, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    steps = collections.Counter(row['step'] for row in rows)
    assert 15 < min(steps.values()) and max(steps.values()) <= MOST_KERNELS, steps
    bad = [row for row in rows
           if row['spills'] > MOST_SPILLED or row['shared'] > SHARED_MEMORY[capability]]
    assert not bad, bad
