# The one list of verbs. `make demo` and `make test` do all their own set-up.

VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
export OKO_VENV = $(VENV)
export PATH := $(abspath $(BIN)):$(PATH)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 16

demo:  ## set up and replay a real capture through flows and a filter program
	@tools/bootstrap run
	@tools/demo

test: setup-test lint ctest pytest  ## everything quick: lint, C tests, Python tests (10 minutes at most)

test-all: test test-long  ## test, and the longer forms

test-long: setup-all san pytest-long test-mutants fuzz  ## only the longer forms

# ---------------------------------------------------------------- parts
setup-test:
	@tools/bootstrap test

setup-all:
	@tools/bootstrap all

lint:  ## ruff, mypy --strict, clang-format, the layer rule
	ruff check .
	ruff format --check .
	mypy
	clang-format --dry-run -Werror $$(git ls-files 'csrc/*.[ch]' 'tests/*.[ch]' 'examples/*.[ch]')
	$(PYTHON) tools/check_layers.py

ctest:  ## the C core's own tests, without Python
	$(MAKE) -C csrc test

san:  ## the C tests under ASan+UBSan and under TSan
	$(MAKE) -C csrc san

pytest:
	pytest -q -n 2 -rs --durations 5 -m "not long" tests

pytest-long:
	pytest -q -n 2 -rs --durations 20 -m long tests

test-mutants:  ## each deliberate fault must turn a named test red
	$(PYTHON) tools/mutants/run

fuzz: ext  ## every fuzz target for FUZZ_SECONDS each
	$(PYTHON) tests/fuzz/verify_seeds.py csrc/build-fuzz/corpus/fuzz_verify
	$(MAKE) -C csrc fuzz

bench:  ## oko-bench, results on the terminal
	oko-bench

ext:  ## build the C extension in place, only what changed
	$(MAKE) -s -j2 -C csrc ext PYTHON=$(PYTHON)

smoke: ext  ## quick sanity check of a working tree
	$(PYTHON) -c 'import oko, oko._oko'
	ruff check -q $$(git ls-files '*.py')
	ruff format -q --force-exclude --check $$(git ls-files '*.py')
	clang-format --dry-run -Werror $$(git ls-files 'csrc/*.[ch]' 'tests/*.[ch]' 'examples/*.[ch]')

clean:
	$(MAKE) -C csrc clean
	rm -rf build dist oko/*.so csrc/_oko.c

.PHONY: help demo test test-all test-long setup-test setup-all lint ctest san pytest pytest-long \
	test-mutants fuzz bench ext smoke clean
