# make setup      install everything into .venv
# make train      set up and run train.py, as in: make train ARGS="seed=1 trainer.max_epochs=3"
# make test       set up and run all checks
# make test-fast  the checks without the slow tests, in under a minute
# make format     format and fix the code with ruff
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

# The stamp files are written last, so that an interrupted installation is repeated. Modules are
# compiled on first import, because most of them are never imported.
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
