# `make demo`, `make test`, `make docs` and `make bench` do all their own set-up: a virtual environment in .venv (made or
# reused) and the install.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.ganzoo-installed
TESTABLE := $(VENV)/.ganzoo-testable
DOCUMENTABLE := $(VENV)/.ganzoo-documentable

.PHONY: demo test docs bench format

demo: $(INSTALLED)
	$(BIN)/ganzoo train dcgan
	@echo "To use ganzoo in this shell: . $(BIN)/activate"

test: $(TESTABLE)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadgroup

docs: $(DOCUMENTABLE)
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build

bench: $(TESTABLE)
	$(BIN)/python tests/benchmarks/run.py $(BENCH)

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
