# On a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: help demo test test-slow campaign lint types bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/reinit: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/reinit
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(BIN)/reinit  ## re-initialise an AlexNet without network and list what was written
	@mkdir -p $(DEMO)
	$(BIN)/reinit alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" \
		--output $(DEMO)/alexnet-reinit.safetensors --force
	$(BIN)/reinit keys $(DEMO)/alexnet-reinit.safetensors

test: $(VENV)/.dev  ## run every test that is not marked slow
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

test-slow: $(VENV)/.dev  ## run the tests that are marked slow
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist worksteal

campaign: $(VENV)/.dev  ## inject faults, fuzz parsers, kill runs, change sources; takes hours
	$(BIN)/python -m tests.campaign

lint: $(VENV)/.dev  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## check types
	$(BIN)/mypy

bench: $(VENV)/.dev  ## print speed and memory beside the alternatives
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.dev  ## make the reference anew and build the site in build/site
	$(BIN)/python docs/make_reference.py
	$(BIN)/python -m mkdocs build --strict

clean:  ## remove what was made here
	rm -rf $(VENV) build dist *.egg-info
