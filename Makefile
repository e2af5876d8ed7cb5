# make train      set up and run the main job    make train ARGS="seed=1 trainer.max_epochs=3"
# make test       set up and run every check
# make test-fast  the checks that take under a minute together
# make format     let ruff format and fix the code
# make docs       build the documentation into site/; open site/index.html

PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --no-compile --constraint constraints.txt

.PHONY: train test test-fast format docs setup

train: .venv/installed
	$(BIN)/python train.py $(ARGS)

CHECK = $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy
PYTEST = $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal

test: setup
	$(CHECK)
	$(PYTEST) $(ARGS)

test-fast: setup
	$(CHECK)
	$(PYTEST) -m "not slow" $(ARGS)

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/installed-docs
	$(BIN)/mkdocs build

setup: .venv/installed-dev

# Stamps are made last, so that an installation that was interrupted is taken up again. Modules are
# compiled when they are first imported, as most of them never are.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) --editable ".[dev]"
	touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) --editable ".[docs]"
	touch $@
