# Everything runs in .venv; the stamp file reinstalls it only when a requirement changes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
WORKSPACE ?= $(or $(FOURDNEX_WORKSPACE),$(CURDIR)/workspace)
UI_PORT ?= 3000
MLFLOW_PORT ?= 5000
VIEWER_PORT ?= 8080
BIOME := @biomejs/biome@2.6.8
TYPESCRIPT := typescript@5.9.3

export FOURDNEX_WORKSPACE := $(WORKSPACE)
# Disable usage statistics, unless you have set these variables. The package sets them too (fourdnex/telemetry.py).
export DAGSTER_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export ITERATIVE_DO_NOT_TRACK ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export ORT_DISABLE_TELEMETRY ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: help install demo ui test test-all lint lint-js docs clean

help:
	@echo "make demo      the whole graph at tiny size, on real images"
	@echo "make ui        Dagster, MLflow and the scenes (ports $(UI_PORT), $(MLFLOW_PORT), $(VIEWER_PORT))"
	@echo "make test      the quick tests      make test-all  all of them"
	@echo "make lint      ruff, mypy, and the viewer's JavaScript where npm is installed"
	@echo "make docs      documentation and API reference as HTML, in site/"
	@echo "make clean     remove .venv and caches (not workspace/)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[all,dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/python -m orchestration.demo

ui: $(STAMP)
	$(BIN)/python -m orchestration.ui --port $(UI_PORT) --mlflow-port $(MLFLOW_PORT) --viewer-port $(VIEWER_PORT)

# One process per core, one thread each; the tests of a file share fixtures and stay in one process.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

test-all: $(STAMP)
	$(BIN)/python -m pytest -q -m ""

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory lint-js

# The tools come from the npm registry on first use. Without npm, this check is skipped with a note.
lint-js:
ifneq ($(shell command -v npx),)
	npx --yes $(BIOME) lint --error-on-warnings
	npx --yes --package $(TYPESCRIPT) tsc --project jsconfig.json
else
	@echo "npm is not installed: fourdnex/viewer/js is not checked"
endif

docs: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './workspace/*' -prune -exec rm -rf {} +
