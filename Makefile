# Everything a contributor runs. Each target sets up what it needs, and may be run again at any time.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUN := $(BIN)/python
INSTALLED := $(VENV)/.installed
NODE := node_modules/.package-lock.json
BUNDLE := static/dist/sources.json
BENCHES := overhead latency page culprits ingest store alerts on_screen shared crowd health.bench health.silence health.cost
# Where sources may not be kept compiled, every process of the tests compiles them all again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(RUN) -m pytest -p tests.strict

.PHONY: help setup bundle system demo serve test check lint types js fast e2e bench faults gpu wheel clean

help:  ## list the targets
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## create the virtual environment

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (the first time this downloads PyTorch and takes a few minutes)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(NODE): package.json package-lock.json | system
	@npm ci --silent --no-audit --no-fund

bundle: $(BUNDLE)  ## make of the scripts and style sheets what pages are served (the server does with the sources alone, too)

$(BUNDLE): bundle.js $(NODE) $(shell find static/js static/css -type f)
	@node bundle.js

system:  ## install the Debian packages that the tests need (as root; elsewhere says what is missing)
	@.ci/system-packages

demo: $(INSTALLED)  ## train a healthy and an exploding model and print the dashboard's link
	@$(BIN)/gradwatch demo

serve: $(INSTALLED)  ## start the server
	@$(BIN)/gradwatch serve

test: $(INSTALLED) $(BUNDLE) system lint types js  ## every check and every test
	$(PYTEST) -n 2 --dist worksteal -m "not e2e"
	$(PYTEST) -n 2 --dist worksteal -m e2e

check: $(INSTALLED) lint types js fast  ## lint, types and the tests of about a second at most, in under 90 seconds

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@printf '%s\n' linux win32 darwin | xargs -P 2 -I @ $(BIN)/mypy --platform @ --cache-dir .mypy_cache/@

js: ## the browser code's pure parts, in Node
	@node --test tests/js/

fast: $(INSTALLED)
	@$(PYTEST) -q -n 2 --dist worksteal -m "not e2e and not slow and not postgres"

e2e: $(INSTALLED) $(BUNDLE) system  ## the browser tests
	$(PYTEST) -n 2 --dist worksteal -m e2e

bench: $(INSTALLED) $(BUNDLE)  ## the benchmarks, each with its baseline in the same run
	@for bench in $(BENCHES); do echo "== $$bench"; $(RUN) -m tests.benchmarks.$$bench || exit 1; done

faults: $(INSTALLED) system  ## the fault tests in their long form: 200 kills, a million mutated frames (about an hour)
	GRADWATCH_LONG=1 GRADWATCH_KILLS=200 $(PYTEST) tests/faults tests/server/store/test_killed.py tests/server/store/test_outages.py

gpu: $(INSTALLED)  ## the CUDA tests, on a machine that has a GPU
	$(PYTEST) tests/gpu

wheel: $(INSTALLED) $(BUNDLE)  ## build the distribution into dist/
	@$(RUN) -m build --wheel --outdir dist

clean:  ## remove what the targets made
	rm -rf $(VENV) static/dist dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
