# On a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
PIP := pip install --disable-pip-version-check
DEMO := build/demo

.PHONY: help demo test test-slow test-lowest campaign lint types bench transcripts docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/reinit: pyproject.toml
	@echo "Installing reinit and PyTorch into $(VENV)."
	@echo "On Linux that downloads about 3 GB, takes 5.5 GB of disk, and 1 to 10 minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/reinit
	@echo "Installing what the tests need into $(VENV): about 0.6 GB more."
	$(BIN)/$(PIP) --quiet --editable '.[dev]'
	@touch $@

demo: $(BIN)/reinit  ## re-initialize an AlexNet without network and show what was written
	@mkdir -p $(DEMO)
	$(BIN)/reinit alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" \
		--output $(DEMO)/alexnet-reinit.safetensors --force
	$(BIN)/reinit info $(DEMO)/alexnet-reinit.safetensors

test: $(VENV)/.dev  ## run every test that is not marked slow
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

test-slow: $(VENV)/.dev  ## run the tests that are marked slow
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist worksteal

test-lowest:  ## run the fast tests with the lowest versions that pyproject.toml allows
	@echo "Installing the lowest versions into $(LOWEST): 5.6 GB, 1 to 10 minutes."
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/$(PIP) --quiet --constraint $(LOWEST)/lowest.txt --editable '.[test]'
	$(LOWEST)/bin/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

campaign: $(VENV)/.dev  ## inject faults, fuzz parsers, kill runs, change sources; takes hours
	$(BIN)/python -m tests.campaign

lint: $(VENV)/.dev  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## check types
	$(BIN)/mypy

bench: $(VENV)/.dev  ## print speed and memory next to the alternatives
	$(BIN)/python benchmarks/run.py

transcripts: $(VENV)/.dev  ## write into the pages, and draw, what their commands print
	$(BIN)/python docs/make_transcripts.py README.md $$(find docs examples -name '*.md')
	$(BIN)/python docs/make_picture.py

docs: $(VENV)/.dev  ## generate the reference and build the site in build/site
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_vectors.py
	$(BIN)/zensical build --strict --clean
	@echo "made build/site; to read it: $(PYTHON) -m http.server --directory build/site"

clean:  ## remove everything that was made here
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info
