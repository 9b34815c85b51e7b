# make demo    trains, folds and pictures a small detector, from nothing (15 minutes on two cores)
# make test    runs the tests; both make .venv first, or again when requirements/ has changed
# Other targets: demo-seg, test-compiled, lint, lock, clean. PYTHON=... picks a Python 3.9 to 3.13.

export PYTHON ?= python3
PYTEST_ARGS ?=
INSTALL := requirements/install.sh
PINS := requirements/lock.txt $(INSTALL) setup.cfg

.PHONY: demo demo-seg test test-compiled env env-compiled lint lock clean
.DEFAULT_GOAL := test

demo: env
	.venv/bin/python tools/demo.py

demo-seg: env
	.venv/bin/python tools/demo.py --task segmentation

test: env
	.venv/bin/python -m pytest $(PYTEST_ARGS)

# The same tests with mmcv's compiled ops in place of the package's own.
test-compiled: env-compiled
	.venv-compiled/bin/python -m pytest $(PYTEST_ARGS)

env: .venv/.installed
env-compiled: .venv-compiled/.installed

.venv/.installed: $(PINS)
	@$(INSTALL) .venv lite

.venv-compiled/.installed: $(PINS)
	@$(INSTALL) .venv-compiled compiled

lint: env
	.venv/bin/python -m ruff check .

# NVIDIA's libraries are left out: torch's CUDA build asks for its own, the CPU build for none.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile --universal --python-version 3.9 --upgrade --quiet \
	    --no-annotate --no-header --no-emit-package opencv-python \
	    requirements/lock.in --output-file .venv-lock/lock.txt
	{ echo '# Made by `make lock` from lock.in; do not edit.'; \
	  grep -vE '^(nvidia-|cuda-|triton)' .venv-lock/lock.txt; } > requirements/lock.txt
	rm -r .venv-lock

clean:
	rm -rf .venv .venv-compiled .venv-lock build dist ./*.egg-info .pytest_cache .ruff_cache
