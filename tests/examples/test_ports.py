"""Parse the examples' Kotlin and Swift with tree-sitter, and run them where a compiler is."""

import shutil
import subprocess
from pathlib import Path

import example_files
import phone_syntax
import pytest

SOURCES = phone_syntax.sources()
JARS = [Path('/usr/share/java') / name for name in (  # Debian's directory
    'junit4.jar', 'hamcrest.jar', 'hamcrest-core.jar', 'com.android.json.jar')]


def errors(text, suffix):
    try:
        return phone_syntax.syntax_errors(text, suffix)
    except ImportError as error:
        pytest.skip(f'{error} (requirements/lint.txt)')


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.name)
def test_the_sources_parse(path):
    assert len(SOURCES) >= 11
    assert not errors(path.read_text(), path.suffix)


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.name)
def test_a_planted_syntax_error_is_found(path):
    text = path.read_text()
    assert errors(text[:text.rindex(')')], path.suffix)


def test_the_kotlin_port_gives_the_vectors(tmp_path):
    if not shutil.which('kotlinc') or not all(jar.exists() for jar in JARS):
        pytest.skip('needs kotlinc (npm: kotlin-compiler) and Debian packages: junit4, '
                    'libhamcrest-java, libandroid-json-java')
    app = example_files.EXAMPLES / 'android/app'
    classes = ':'.join(map(str, JARS))
    main = app / 'src/main/java/mobileone'
    subprocess.run(['kotlinc', '-cp', classes, main / 'Postprocess.kt', main / 'ModelInfo.kt',
                    app / 'src/test/java/mobileone', '-include-runtime', '-d',
                    tmp_path / 'port.jar'], check=True)
    done = subprocess.run(['java', '-cp', f'{tmp_path}/port.jar:{classes}',
                           'org.junit.runner.JUnitCore', 'mobileone.PostprocessTest'],
                          cwd=app, capture_output=True, text=True)
    assert done.returncode == 0 and 'OK (5 tests)' in done.stdout, done.stdout


def test_the_swift_port_gives_the_vectors(tmp_path):
    if not shutil.which('swift'):
        pytest.skip('needs swift')
    shutil.copytree(example_files.EXAMPLES / 'ios', tmp_path / 'ios')
    shutil.copytree(example_files.EXAMPLES / 'fixtures', tmp_path / 'fixtures')
    done = subprocess.run(['swift', 'test'], cwd=tmp_path / 'ios', capture_output=True, text=True)
    assert done.returncode == 0 and 'Executed 5 tests, with 0 failures' in done.stdout, done.stderr
