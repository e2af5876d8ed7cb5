# make train    set up and run the main job      make train ARGS="seed=1 trainer.max_epochs=3"
# make test     set up and run every check
# make format   let ruff format and mend the code

PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test format setup

train: setup
	$(BIN)/python train.py $(ARGS)

test: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal $(ARGS)

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

setup: .venv/installed

# Made last, so that an installation that was interrupted is taken up again.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@
