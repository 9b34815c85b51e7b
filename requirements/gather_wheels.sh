#!/usr/bin/env bash
# Gathers the pinned packages as wheels, for a Linux machine without a network:
#     gather_wheels.sh DIR VERSION [PACKAGE ...]
# VERSION is that machine's Python (3.12). Packages that it already has, such as torch with CUDA, are
# named after it and left out; `@FILE` reads their names from a file, one per line. There, run:
#     python3 -m pip install --no-index --no-deps --target SITE DIR/*.whl; export PYTHONPATH=SITE
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,6s/^# \?//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$1 version=$2 python=${PYTHON:-python3}
shift 2
mkdir -p "$folder"
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }

# The lock's packages for that Python; pip would evaluate markers for the Python that runs it.
pins() {
    "$python" - "$root/requirements/lock.txt" "$version" "$@" <<'PYTHON'
import sys
from pathlib import Path
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

lock, version, *names = sys.argv[1:]
names = [word for name in names
         for word in (Path(name[1:]).read_text().split() if name[0] == '@' else [name])]
present = {canonicalize_name(name) for name in names}
target = dict(python_version=version, python_full_version=f'{version}.0', sys_platform='linux',
              platform_system='Linux', os_name='posix')
for line in Path(lock).read_text().splitlines():
    line = line.split('#')[0].strip()
    if line:
        pin = Requirement(line)
        if canonicalize_name(pin.name) not in present and (
                pin.marker is None or pin.marker.evaluate(target)):
            print(f'{pin.name}{pin.specifier}')
PYTHON
}

platforms=(--platform manylinux1_x86_64 --platform manylinux2010_x86_64
           --platform manylinux2014_x86_64)
for minor in $(seq 5 34); do  # pip matches each of them exactly
    platforms+=(--platform "manylinux_2_${minor}_x86_64")
done
list=$(pins "$@")
for pin in $list; do
    if ! pip download --no-deps --only-binary=:all: --implementation cp \
            --python-version "$version" "${platforms[@]}" --dest "$folder" "$pin" 2> /dev/null; then
        # Source only: pure Python makes a wheel that fits anywhere.
        pip wheel --no-deps --wheel-dir "$folder" "$pin"
    fi
    echo "$pin"
done
others=$(find "$folder" -name '*.whl' ! -name '*-none-any.whl' ! -name "*-cp${version/./}-*" \
    ! -name '*-abi3-*' ! -name '*-py3-none-*')
[ -z "$others" ] || { echo "gather_wheels: not for Python $version: $others" >&2; exit 1; }
du -sh "$folder"
