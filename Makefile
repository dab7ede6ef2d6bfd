# Everything starts here: `make demo` and `make test` set up what they need, nothing has to be activated.
# PYTHON names the interpreter that makes .venv (3.11 or newer); ARGS is handed to the command of the target; TESTS picks
# what `make test` runs, and JOBS in how many processes.
SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=
JOBS ?= 2

BIN := .venv/bin
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
TESTS := $(wildcard tests plugins/*/tests)
# Named after what it was made from: a changed or new pyproject sets up again, a mere checkout or touch does not.
NATIVE := $(wildcard core/coembed/native/*.[ch]) core/build_native.py
STAMP := .venv/.setup-$(shell cat constraints.txt $(PROJECTS) $(NATIVE) | cksum | cut -d' ' -f1)

.PHONY: help setup demo test third-party test-all lint docs wheels bench clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with core and every plugin, editable; does nothing when nothing changed

# One pip call, so that one resolver sees every requirement; pip's long log goes to .venv/setup.log. Each plugin is named
# twice, bare and with its test extra: the pip of Python 3.11 does not see that the second offers what the first would,
# and asks the package index for a plugin that another one depends on.
$(STAMP):
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." \
	       "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; } || { \
	  rm -rf .venv; echo "'$(PYTHON) -m venv .venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing core and $(words $(PLUGINS)) plugins (the first time this downloads torch: some minutes)"
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
	  --log .venv/setup.log -c constraints.txt -e '.[dev]' $(foreach p,$(PLUGINS),-e '$(p)' -e '$(p)[test]') \
	  | awk '/^(Collecting|Successfully)|Downloading .*(MB|GB)/ { print substr($$0, 1, 100); fflush() }'
	@rm -f .venv/.setup-*
	@touch $@

demo: setup ## run the main job on real data: train, table, queries, report.html
	@$(BIN)/coembed demo $(ARGS)

test: setup ## the test suite without what is marked slow or external
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) -q -n $(JOBS) -m "not slow and not external" $(ARGS)

third-party: setup ## a stranger's plugin from wheels to search, and the authors' tutorial, in environments of their own
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_third_party.py tests/test_docs_authors.py -q -n $(JOBS) $(ARGS)

test-all: setup ## every test
	@$(BIN)/python -m pytest $(TESTS) -q $(ARGS)

lint: setup ## ruff, mypy --strict on core, generated docs and registry.yaml up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python tools/docs.py --check
	@$(BIN)/coembed registry --check

docs: setup ## write the generated pages of docs/ anew
	@$(BIN)/python tools/docs.py

wheels: setup ## one wheel per distribution, in dist/
	@rm -rf dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist \
	  . $(addprefix ./,$(PLUGINS))
	@ls dist

bench: setup ## every benchmark, one table each
	@$(BIN)/coembed-bench all $(ARGS)

clean: ## remove .venv and everything that was built
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
	find core plugins tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
