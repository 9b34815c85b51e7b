#!/usr/bin/env bash
# Makes a virtual environment with the pinned stack: install.sh VENV lite|compiled|deploy
# PYTHON names the interpreter. `compiled` builds mmcv's C++ ops (some minutes, once: pip keeps
# the wheel) where `lite` takes mmcv-lite, for which mobileone_mm supplies the ops it needs;
# `deploy` is `lite` with the exporters and runtimes of deploy.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 mmcv=$2 python=${PYTHON:-python3}
# An interrupted install leaves no such file, so the next run starts over.
stamp=$venv/.installed

fail() { echo "install: $*" >&2; exit 1; }

command -v "$python" > /dev/null || fail "no '$python' here; name a Python 3.9 to 3.13: make PYTHON=..."
"$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] < (3, 14))' ||
    fail "$("$python" --version) found, 3.9 to 3.13 needed; name one: make PYTHON=python3.11"
"$python" -c 'import ensurepip, venv' 2> /dev/null ||
    fail "'$python' has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
[ "$mmcv" != compiled ] || command -v c++ > /dev/null ||
    fail "no C++ compiler (c++), which mmcv's ops need; on Debian and Ubuntu: apt-get install g++"

lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
case $mmcv in
lite) cp requirements/lock.txt "$lock" ;;
deploy) cp requirements/deploy.txt "$lock" ;;
compiled) grep -v '^mmcv-lite' requirements/lock.txt > "$lock" ;;
*) fail "$mmcv: expected lite, compiled or deploy" ;;
esac

echo "== $venv: a fresh environment of $("$python" --version)"
"$python" -m venv --clear "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# torch first, with what its build needs (nothing for the CPU's, NVIDIA's libraries for CUDA's);
# then the rest without dependencies, since the lock is whole and has the headless OpenCV instead
# of the one that mmengine and mmcv declare.
echo "== $venv: torch"
pip install --constraint "$lock" torch
echo "== $venv: $(grep -c '==' "$lock") pinned packages, about a minute"
pip install --quiet --no-deps --requirement "$lock"

if [ "$mmcv" = compiled ]; then
    echo "== $venv: compiling mmcv's ops, some minutes unless pip has the wheel"
    pip install --quiet wheel ninja
    if command -v flock > /dev/null; then
        HEADERS=$(mktemp -d)
        trap 'rm -rf "$lock" "$HEADERS"' EXIT
        export HEADERS CXX=$PWD/requirements/cxx_once.sh
    fi
    # Debug information, which Python's own flags ask for, takes up to half of the compiler's time.
    # CPPFLAGS are appended to these flags; CFLAGS would replace them, -O3 included.
    export CPPFLAGS="${CPPFLAGS-} -g0"
    build() { MMCV_WITH_OPS=1 pip install --no-deps --no-build-isolation "$@" mmcv==2.1.0; }
    build
    # pip's cached wheel may have been compiled against another torch.
    "$venv/bin/python" -c 'import torch, mmcv._ext' || build --no-cache-dir --force-reinstall
fi

pip install --quiet --no-deps --no-build-isolation --editable .
touch "$stamp"
