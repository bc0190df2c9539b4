# make train | make test | make lint | make docs: each installs what it needs into .venv, once.
# make test-newest PYTHON=python3.13 VENV=.venv-newest: the part of the suite that needs no peers, in
# a few minutes, with the libraries that pip gives a newer Python.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0
WITHOUT_PINS := litert-converter  # it pins an xdsl that excludes tyro's typing-extensions
# The compiler for GPUs, beside the environment: inside, it looks for CUDA in every process.
JAXLIB = $(shell $(BIN)/python -c 'from importlib.metadata import version as v; print(v("jaxlib"))')
GPU_PLUGIN = --target $(VENV)/gpu jax-cuda13-plugin==$(JAXLIB) jax-cuda13-pjrt==$(JAXLIB)

.PHONY: train test test-slow test-newest lint docs release-check web-check clean

NEWEST := tests/test_compat.py tests/test_compiler.py tests/test_golden.py tests/test_registry.py \
	tests/test_summary.py tests/weights tests/command tests/inference \
	$(addprefix tests/cli/test_,doctor.py export.py main.py predict.py summary.py) \
	$(addprefix tests/exporters/test_,exporting.py networks.py onnx.py stablehlo.py) \
	$(addprefix tests/ops/test_,dispatch.py forms.py transforms.py) \
	$(addprefix tests/train/test_,checkpoints.py parallel.py step.py)

train: $(VENV)/.installed
	$(BIN)/python -m train --model v2 --alpha 1.4

test: $(VENV)/.installed-test
	$(PYTEST)

# Whole runs with the defaults; `make test-slow SLOW="-k digits"` chooses.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow -rA --durations=0 $(SLOW) tests/slow

test-newest: $(VENV)/.installed-newest
	$(PYTEST) $(NEWEST)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Build the wheel, install it into an environment of its own, and use it away from the checkout.
release-check: $(VENV)/.installed-release
	rm -rf dist build/release
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/release && for command in doctor list "info v2" "summary v2 --plot v2.png" \
	  "train --model v2 --alpha 0.35 --steps 8 --output run" "export --help" "bench --help" \
	  "plot-filters --weights run/best" "convert --help" "pack --help" "push --help"; do \
	  echo "flaxmobile $$command"; bin/flaxmobile $$command > output || exit 1; done

# Classify an image on the page of examples/web, in a headless Chromium.
web-check: $(VENV)/.installed-export
	cd examples/web && npm install --silent --no-package-lock --ignore-scripts
	$(BIN)/python -m examples.web.check

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("flaxmobile needs Python 3.11 or newer, this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) --editable '.[$*]'
	$(if $(filter test newest,$*),$(PIP) --no-deps $(WITHOUT_PINS))
	$(if $(filter test,$*),$(PIP) --no-deps --upgrade $(GPU_PLUGIN))
	@touch $@
