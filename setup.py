"""Builds the package with `.mim/`, where openmim looks for configs, tools and metafiles.

Everything else is in setup.cfg.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('configs', 'tools', 'model-index.yml', 'dataset-index.yml')


class BuildWithMim(build_py):
    """Copies MIM_FILES into the built package; an editable install gets links in the source."""

    def run(self) -> None:
        """Build, then add the files."""
        super().run()
        for name in MIM_FILES:
            if self.editable_mode:
                _link(ROOT / name, ROOT / 'mobileone_mm' / '.mim' / name)
            else:
                _copy(ROOT / name, Path(self.build_lib) / 'mobileone_mm' / '.mim' / name)

    def get_outputs(self, include_bytecode: bool = True) -> list:
        """What was built, for installers that record it."""
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        mim = Path(self.build_lib) / 'mobileone_mm' / '.mim'
        return outputs + [str(path) for path in mim.rglob('*') if path.is_file()]


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder over what an earlier build left there."""
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
    else:
        shutil.copy2(source, target)


def _link(source: Path, target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    target.parent.mkdir(exist_ok=True)
    try:
        target.symlink_to(os.path.relpath(source, target.parent))
    except OSError:  # Windows without permission to create links
        _copy(source, target)


setup(cmdclass={'build_py': BuildWithMim})
