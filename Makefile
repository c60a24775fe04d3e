# Every target makes the environment that it needs; `make demo` and `make test` are all that a fresh machine takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What is installed, and the versions that the tests last passed with.
REQUIREMENTS := --editable '.[dev]'
CONSTRAINTS := constraints.txt
# Real data, one folder a dataset, for the tests that need it.
DATA ?= $(or $(TAMIS_DATA),data)
# Test files run at a time. Each worker holds a GB and a Prefect server of its own.
WORKERS ?= 2
PYTEST := python -m pytest -q --numprocesses $(WORKERS) --dist loadfile

.PHONY: environment demo test test-nightly test-real test-newest test-oldest lint bench docs site constraints clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/tamis demo --folder demo

test: $(READY)
	$(BIN)/$(PYTEST) tests

test-nightly: $(READY)
	$(BIN)/python -m pytest -q -m nightly tests

test-real: $(READY)
	@test -d '$(DATA)' || { echo "No folder '$(DATA)'. Give the one with the data: make test-real DATA=DIR (see CONTRIBUTING.md)"; exit 2; }
	TAMIS_DATA='$(abspath $(DATA))' $(BIN)/python -m pytest -q -rs -m real tests

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

site: $(READY)
	$(BIN)/python -m zensical build --clean --strict

environment: $(READY)

# $(call install,OPTIONS): with pip, into the environment.
install = $(BIN)/python -m pip install --disable-pip-version-check $(1) $(REQUIREMENTS)

# What pip says of constraints that it cannot meet, and of them alone: those that it names, or its last error.
LOG := $(VENV)/constraints.log
WHY = sed -n 's/.*The user requested (constraint) //p' $(LOG) | sort -u | paste -s -d , | sed 's/,/, /g' | grep . \
	|| grep '^ERROR: ' $(LOG) | tail -n 1 | cut -c 8-300

# $(call link,ENVIRONMENT): type checkers and import-linter do not run setuptools' import hook; links let them see
# `tamis.store` and the others. The folders are linked, not the checkout: it holds the environment, and what walks
# `tamis` would come round to the link again and never end.
define link
tamis="$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/tamis" && \
rm -rf "$$tamis" && mkdir "$$tamis" && \
for folder in store curation training flows; do ln -s "$(CURDIR)/$$folder" "$$tamis/$$folder" || exit 1; done
endef

# What a killed run left half-made, or whose Python is gone, is made anew.
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	    $(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV)
	@echo "Installing into $(VENV): some GB and minutes, if nothing is there yet"
	@$(call install,--constraint '$(CONSTRAINTS)') >$(LOG) 2>&1 || { echo "$(CONSTRAINTS) cannot be met here \
	($$($(WHY))), installing by the bounds of pyproject.toml"; $(call install,--quiet); }
	@$(call link,$(VENV))
	@touch $(READY)

# The versions of this environment, which the tests have just passed with, become those of everybody. torch brings what
# belongs to CUDA by itself, as the machine needs it.
constraints: $(READY)
	$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude tamis | \
	    sed 's/+.*//' | grep -v -i -E '^(nvidia|cuda|triton)' > $(CONSTRAINTS).new
	mv $(CONSTRAINTS).new $(CONSTRAINTS)

# The two ends of what pyproject.toml allows, each in an environment of its own of some GB, resolved anew each time.
UV := .venv-uv/bin/uv

$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv

test-newest: RESOLUTION := highest
test-newest: INTERPRETER := $(PYTHON)
test-oldest: RESOLUTION := lowest-direct
test-oldest: INTERPRETER := 3.11
test-newest test-oldest: test-%: $(UV)
	test -x .venv-$*/bin/python || $(UV) venv --quiet --clear --python $(INTERPRETER) .venv-$*
	$(UV) pip install --quiet --python .venv-$* --resolution $(RESOLUTION) --upgrade --exact $(REQUIREMENTS)
	@$(call link,.venv-$*)
	.venv-$*/bin/$(PYTEST) tests

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest .venv-uv build dist *.egg-info demo site .cache
