"""How torch's threads wait for each other."""

import os
import subprocess
import sys

import pytest

SHOW = '; import os; print(os.environ.get("OMP_WAIT_POLICY"))'


@pytest.mark.parametrize('first, policy, expected', [
    ('mobileone_mm', None, 'passive'),  # before torch reads it
    ('torch, mobileone_mm', None, 'None'),  # too late to have an effect
    ('mobileone_mm', 'active', 'active'),  # set by the user
])
def test_threads_sleep_unless_the_user_says_otherwise(first, policy, expected):
    environment = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    if policy:
        environment['OMP_WAIT_POLICY'] = policy
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', f'import {first}{SHOW}'],
                          env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split()[-1] == expected
