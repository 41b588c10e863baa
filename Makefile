# Every target makes its own environment when it is missing: `make demo` and `make test` work from a fresh clone.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip -qq --disable-pip-version-check
DEV    := $(VENV)/.dev-installed
DEMO   := $(VENV)/.demo-installed
# What the kernels are built with; a system's own cmake and ninja serve as well.
BUILD  := 'scikit-build-core>=0.10' $(if $(shell command -v cmake),,cmake) $(if $(shell command -v ninja),,ninja)
KERNELS := $(shell find custom_ops -name '*.cc' -o -name '*.h' -o -name 'op.toml' -o -name CMakeLists.txt)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all sanitize bench lint clean compiler-note

help:
	@echo "make demo      watch a trained model get pruned, checked, measured and served"
	@echo "make test      format, lint, types, tests: the whole gate"
	@echo "make test-all  the same with the slow tests"
	@echo "make sanitize  the kernels under sanitizers, fuzzed, and on an emulated Arm"
	@echo "make bench     speed and memory of the rewriter itself"
	@echo "make lint      format, lint and types only"
	@echo "make install   the environment for development, in $(VENV)"
	@echo "make clean     remove everything that was made here"

install: $(DEV)
	@$(PIP) install --no-build-isolation --no-deps -e .

# The demo is content with a development environment; alone it installs less.
demo: $(if $(wildcard $(DEV)),$(DEV),$(DEMO)) compiler-note
	@$(PY) -m graphrewrite.demo

test: $(DEV) compiler-note
	@tests/check.sh

test-all: $(DEV) compiler-note
	@$(PIP) install --no-build-isolation -e '.[dev,cluster]'
	@tests/check.sh --slow

# GRAPHREWRITE_FUZZ_CASES (100000) is the number of cases an operator, GRAPHREWRITE_FUZZ_SEED (1) draws others.
sanitize: $(DEV) compiler-note
	@OMP_NUM_THREADS=1 $(VENV)/bin/pytest -q -n 2 -m "slow or not slow" tests/custom_ops/host

bench: $(DEV)
	@echo "bench: installing the rivals it measures against"
	@$(PIP) install --no-build-isolation -e '.[dev,bench]'
	@$(PY) tests/bench/run.py

lint: $(DEV)
	@tests/check.sh format lint types

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: done"

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "graphrewrite needs Python 3.11 or newer, " + sys.executable + " is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@echo "environment: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "environment: this Python cannot make one; on Debian and Ubuntu install python3-venv"; exit 1; }

# Editable and without build isolation, so that a new file is visible at once to every tool.
$(DEV): pyproject.toml $(KERNELS) | $(PY)
	@echo "environment: installing graphrewrite and its development tools"
	@$(PIP) install $(BUILD)
	@$(PIP) install --no-build-isolation -e '.[dev]'
	@touch $@

$(DEMO): pyproject.toml $(KERNELS) | $(PY)
	@echo "environment: installing graphrewrite and what the demo needs"
	@$(PIP) install $(BUILD)
	@$(PIP) install --no-build-isolation -e '.[demo]'
	@touch $@

compiler-note:
	@command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 || \
		echo "note: no C++ compiler found, which is fine: custom nodes run through their function bodies, only slower"
