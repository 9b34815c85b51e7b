"""The tests that docs/security.md names as proof exist."""

import re

from paths import ROOT

PAGE = (ROOT / 'docs/security.md').read_text()


def test_the_named_tests_exist():
    files = set(re.findall(r'`(tests/\S+\.py)`', PAGE))
    assert len(files) > 4 and all((ROOT / name).is_file() for name in files)
    code = ''.join((ROOT / name).read_text() for name in files)
    names = re.findall(r'`(test_\w+)`', PAGE)
    assert len(names) > 8
    assert not [name for name in names if f'def {name}(' not in code]
