# Every target sets itself up: a virtual environment in .venv, new or from the last time, and the install.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.ganzoo-installed
TESTABLE := $(VENV)/.ganzoo-testable
DOCUMENTABLE := $(VENV)/.ganzoo-documentable

.PHONY: demo test prove docs bench fuzz format

demo: $(INSTALLED)
	$(BIN)/ganzoo train dcgan --recipe digits
	@echo "To use ganzoo in this shell: . $(BIN)/activate"

test: $(TESTABLE)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m "not slow" --cov --cov-report=term

# What only long runs prove: trainings that learn, runs that are killed, many processes.
prove: $(TESTABLE)
	$(BIN)/pytest -n 2 -m slow

docs: $(DOCUMENTABLE)
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build

bench: $(TESTABLE)
	$(BIN)/python tests/benchmarks/run.py $(BENCH)

# Damaged files of all kinds: see tests/fuzz/fuzz.py.
fuzz: $(TESTABLE)
	PYTHONPATH=tests $(BIN)/python tests/fuzz/fuzz.py $(FUZZ)

format: $(TESTABLE)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ganzoo needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	@touch $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --editable '.[test]'
	@touch $@

$(DOCUMENTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --editable '.[docs]'
	@touch $@
