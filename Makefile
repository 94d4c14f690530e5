# Two commands do everything on a fresh machine with Python 3.10+: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/installed

.PHONY: demo test check bench profile clean

demo: $(READY)
	$(BIN)/pcompiler models --fetch
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/pcompiler models --fetch
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pcompiler.bench

profile: $(READY)
	$(BIN)/pcompiler models --fetch
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[profile]'
	$(BIN)/python -m pcompiler.bench --profile --quick
	@echo "to see it in TensorBoard: $(BIN)/python -m pcompiler.bench.profiles"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "pcompiler needs Python 3.10 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .demo build dist *.egg-info
