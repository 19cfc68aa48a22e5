# Each target is enough alone on a machine with Python 3.11 or later, make and git.
UV_VERSION := 0.13.8
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup book draft pdf test tooling numeric browser run picture bench lint format lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

setup: $(READY)  ## install everything into .venv, from a lock with hashes (7 GB)

book: $(READY)  ## run what is missing and build the book into _build/html
	$(BIN)/phenomena book

draft: $(READY)  ## the same from smoke runs, into _build/draft
	$(BIN)/phenomena book --edition smoke

pdf: book  ## the book as one PDF, _build/phenomena.pdf (Debian's chromium and poppler-utils)
	$(BIN)/python -m phenomena.runs.book.pdf _build/html _build/phenomena.pdf

PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist loadfile
BUILT := --ignore tests/book/test_browser.py --ignore tests/book/test_pdf.py
# folders in an order that leaves short files for the end, when one worker may have nothing to do
test: $(READY) .tests/.ready  ## all tests but those of `make browser`; warnings are errors
	$(PYTEST) $(BUILT) --no-loadscope-reorder tests/runs tests/chapters tests/book tests/science

tooling: $(READY) .tests/.ready  ## those of `make test` that `make numeric` leaves out
	$(PYTEST) $(BUILT) --no-loadscope-reorder tests/runs tests/chapters/test_chapters.py tests/book

numeric: $(READY) .tests/.ready  ## the numerical tests, held to the instruction set of runs
	env $$($(BIN)/python -m phenomena.runs.contract.arithmetic) \
		$(PYTEST) tests/science tests/chapters --ignore tests/chapters/test_chapters.py

browser: $(READY) .tests/.ready draft  ## tests of the built draft in Debian's chromium, and of its PDF
	CI_BROWSER=1 $(BIN)/python -m pytest --numprocesses auto tests/book/test_pdf.py tests/book/test_browser.py

run: $(READY)  ## one chapter: make run CHAPTER=benign_memorization ARGS="-p seeds=3"
	$(BIN)/phenomena run $(CHAPTER) $(ARGS)

picture: $(READY)  ## make the README's picture again, from a run of its chapter
	$(BIN)/phenomena run benign_memorization
	$(BIN)/phenomena figure benign_memorization knn --png book/_static/readme.png

bench: $(READY) .bench/.ready  ## every benchmark, interleaved on one pinned core
	for script in benchmarks/*.py; do OMP_NUM_THREADS=1 PYTHONPATH=.bench $(BIN)/python $$script --core 0; done

.bench/.ready: benchmarks/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .bench --no-deps --require-hashes -r $<
	touch $@

.tests/.ready: tests/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target .tests --no-deps --require-hashes -r $<
	touch $@

lint: $(READY)  ## style and types, notebooks included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbqa mypy notebooks

format: $(READY)  ## put the style right where that can be done by machine
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

UPGRADE ?= --upgrade
lock: $(READY)  ## rewrite the locks from pyproject.toml with the newest versions
	$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --all-extras --group dev pyproject.toml --output-file requirements.lock
	echo jax | $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --constraint requirements.lock - \
		--output-file benchmarks/requirements.lock
	printf '%s\n' axe-playwright-python dattri | $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-index-url --no-deps - \
		--output-file tests/requirements.lock
	sed -i "s/^UV_VERSION := .*/UV_VERSION := $$(sed -n 's/^uv==\([^ ;\\]*\).*/\1/p' requirements.lock)/" Makefile

clean:  ## remove runs, builds and the environment
	rm -rf .venv .bench .tests _build runs
