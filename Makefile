# Every target makes the environment that it needs; `make demo` and `make test` are all that a fresh machine takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench docs clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/tamis demo --folder demo

test: $(READY)
	$(BIN)/python -m pytest -q tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: $(READY)
	$(BIN)/python tests/benchmarks/run.py

docs: $(READY)
	$(BIN)/python docs/generate.py

# The link lets type checkers and import-linter, which do not run setuptools' import hook, see `tamis.store` and the others.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	ln -sfn "$(CURDIR)" "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/tamis"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info demo
