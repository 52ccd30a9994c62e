# Every target calls `setup`, which does nothing when nothing changed. Nothing here needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CASES ?= tests/conformance/cases
QUICK ?=
# Where the shell forbids it, every start of a node would compile all of Ostiary anew: tests start hundreds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup run test bench check format conformance lock clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ostiary needs Python 3.11 or newer; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

run: setup
	@$(BIN)/python examples/run.py

test: setup check
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup
	@QUICK=$(QUICK) $(BIN)/python -m bench

conformance: setup
	@$(BIN)/python -m tests.conformance $(CASES)

lock: setup
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header --group dev pyproject.toml --output-file dev.lock

clean:
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
