# make demo    trains and folds a small detector from scratch and draws a picture (6 minutes on two cores)
# make test    runs the tests; both first create .venv, or update it when requirements/ has changed
# Other targets: demo-seg, demo-both, fuzz, coverage, mutants, test-compiled, test-triton, test-deploy,
# test-litert, test-package, docs, lint, lock, clean.
# PYTHON=... picks a Python from 3.9 to 3.13, WORKERS=... the number of single-threaded processes that
# share the tests.

export PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
PYTEST := -m pytest --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST_ARGS)
INSTALL := requirements/install.sh
PINS := requirements/lock.txt $(INSTALL) setup.cfg

.PHONY: demo demo-seg demo-both test fuzz coverage mutants test-compiled test-triton test-deploy \
    test-litert test-package env env-compiled env-triton env-deploy env-litert env-package docs lint \
    lock clean
.DEFAULT_GOAL := test

demo: env
	.venv/bin/python tools/demo.py

demo-seg: env
	.venv/bin/python tools/demo.py --task segmentation

demo-both: env
	.venv/bin/python tools/demo.py --task both

test: env
	OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST)

# Run the tests and measure which lines of the package they cover, in the environment for all tests
# but those of compiled ops. Slower, and not part of CI.
coverage: env-deploy
	.venv-deploy/bin/python -m pip install --quiet --no-deps -r requirements/coverage.txt
	OMP_NUM_THREADS=1 .venv-deploy/bin/python $(PYTEST) --cov=mobileone_mm --cov-report=term

# Try damaged and made-up files, new ones each time: FUZZ_EXAMPLES of each kind.
fuzz: env
	OMP_NUM_THREADS=1 FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-2000} .venv/bin/python $(PYTEST) tests/fuzz

# Mutate the mathematics, folding, checkpoints and preflight to find changes that no test notices.
# Takes hours, not part of CI; MUTANTS='mobileone_mm.folding.maths*' takes one module. Code that
# numba compiles is left out, and so are its tests, because numba cannot compile mutants.
MUTANTS ?=
mutants: env .venv-mutants/.installed
	OMP_NUM_THREADS=1 NUMBA_DISABLE_JIT=1 \
	    .venv-mutants/bin/mutmut run --max-children $(WORKERS) $(if $(MUTANTS),'$(MUTANTS)')
	.venv-mutants/bin/mutmut results

.venv-mutants/.installed: requirements/mutants.txt
	.venv/bin/python -m venv --clear .venv-mutants
	.venv-mutants/bin/python -m pip install --quiet -r requirements/mutants.txt
	.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	    `.venv-mutants/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'`/env.pth
	@touch $@

# Test with mmcv's compiled ops instead of the package's: the tests of these ops and of all code on
# mmdet and mmseg. Other tests call no op; `make test-compiled COMPILED_TESTS=` runs all.
COMPILED_TESTS := $(addprefix tests/,utils/mmcv_ops detection segmentation commands folding export \
    datasets/test_custom_coco.py engine test_import_isolation.py test_tutorial.py)
test-compiled: env-compiled
	OMP_NUM_THREADS=1 .venv-compiled/bin/python $(PYTEST) $(COMPILED_TESTS)

# Test the Triton kernels: in Triton's interpreter or on a GPU, and compiled for other GPUs.
test-triton: env-triton
	TRITON_INTERPRET=$$(.venv-triton/bin/python -c \
	    'import torch; print(int(not torch.cuda.is_available()))') \
	    OMP_NUM_THREADS=1 .venv-triton/bin/python $(PYTEST) tests/branches/triton

# Run the tests that need the export runtimes.
test-deploy: env-deploy
	OMP_NUM_THREADS=1 .venv-deploy/bin/python $(PYTEST) tests/export tests/commands/test_predict.py

# What needs LiteRT's converter too, which does not resolve beside the others.
test-litert: env-litert
	OMP_NUM_THREADS=1 .venv-litert/bin/python $(PYTEST) -k litert tests/export

# Build the wheel and the sdist, install them, and use them with openmim away from the checkout.
test-package: env-package
	rm -rf build dist
	.venv-package/bin/python -m build --outdir dist .
	.venv-package/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	.venv-package/bin/python -m pytest -c tests/package/pytest.ini tests/package

# Build the documentation into build/docs. griffe reads the source, so torch is not needed.
docs: .venv-docs/.installed
	.venv-docs/bin/mkdocs build --strict

.venv-docs/.installed: requirements/docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --quiet -r requirements/docs.txt
	@touch $@

env: .venv/.installed
env-compiled: .venv-compiled/.installed
env-triton: .venv-triton/.installed
env-package: .venv-package/.installed
env-deploy: .venv-deploy/.installed
env-litert: .venv-litert/.installed

.venv/.installed: $(PINS)
	@$(INSTALL) .venv lite

.venv-compiled/.installed: $(PINS)
	@$(INSTALL) .venv-compiled compiled

# Only Triton, 700 MB, in addition to the packages of .venv.
.venv-triton/.installed: .venv/.installed requirements/triton.txt
	$(PYTHON) -m venv --clear .venv-triton
	.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$(.venv-triton/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	.venv-triton/bin/python -m pip install --quiet --no-deps -r requirements/triton.txt
	@touch $@

.venv-deploy/.installed: $(PINS) requirements/deploy.txt
	@$(INSTALL) .venv-deploy deploy

# LiteRT's converter, 700 MB, beside the packages of .venv-deploy.
.venv-litert/.installed: .venv-deploy/.installed requirements/litert.txt
	$(PYTHON) -m venv --clear .venv-litert
	.venv-deploy/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$(.venv-litert/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	.venv-litert/bin/python -m pip install --quiet --no-deps -r requirements/litert.txt
	@touch $@

.venv-package/.installed: $(PINS) requirements/package.txt
	@$(INSTALL) .venv-package lite
	@rm $@
	.venv-package/bin/python -m pip uninstall --quiet --yes mobileone_mm
	.venv-package/bin/python -m pip install --quiet --no-deps -r requirements/package.txt
	@touch $@

# mypy has its own environment and reads the packages of .venv.
lint: env .venv-lint/.installed
	.venv/bin/python -m ruff check .
	.venv-lint/bin/mypy --python-executable .venv/bin/python
	.venv-lint/bin/python tests/helpers/phone_syntax.py

.venv-lint/.installed: requirements/lint.txt
	$(PYTHON) -m venv --clear .venv-lint
	.venv-lint/bin/python -m pip install --quiet --no-deps -r requirements/lint.txt
	@touch $@

# NVIDIA's libraries are left out: torch's CUDA build requires its own, the CPU build none.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	for name in lock deploy; do \
	    .venv-lock/bin/uv pip compile --universal --python-version 3.9 --upgrade --quiet \
	        --no-annotate --no-header --no-emit-package opencv-python \
	        --overrides requirements/deploy-overrides.in \
	        requirements/$$name.in --output-file .venv-lock/$$name.txt && \
	    { echo "# Made by \`make lock\` from $$name.in; do not edit."; \
	      grep -vE '^(nvidia-|cuda-|triton)' .venv-lock/$$name.txt; } > requirements/$$name.txt \
	    || exit 1; done
	rm -r .venv-lock

clean:
	rm -rf .venv .venv-* mutants build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache
