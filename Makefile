# SPDX-License-Identifier: Apache-2.0
# `make demo` runs the main job, `make test` the tests, `make lint` the linters; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The torch that every figure in this repository was measured with; users may have any torch >= 2.11. Its CPU build
# suffices: where pip would take another, give its index, as in TORCH='torch==2.13.0 --index-url URL'.
TORCH ?= torch==2.13.0
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc src -type f)
# An editable install knows the modules that were there; its stamp carries a checksum of their names.
INSTALLED := $(VENV)/.installed-$(firstword $(shell find python -name '*.py' | LC_ALL=C sort | cksum))

.PHONY: demo test lint format stubs bench bench-networks bench-quick bench-compare bench-save bench-docs systems systems-check asan compilers aarch64 wheel wheels wheel-again sdist gates install-check old-glibc clean help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

demo: $(INSTALLED) ## draw a scene, encode it, add noise, fuse it; pictures in demo/
	$(BIN)/deeperlab demo --out demo --seed 4 --size 641

PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=16
test: $(INSTALLED) ## all tests, and every benchmark once, untimed; FAST=1: the quick tests, in under a minute
	$(PYTEST) $(if $(FAST),tests -m "not slow",tests benchmarks)

systems-check: $(INSTALLED) ## every network trained, parsed with, evaluated and exported, one after the other; half an hour of a core
	$(BIN)/python -m pytest tests/test_every_system.py -m "systems or not systems"

CXX_FILES := find .ci csrc src benchmarks/yardsticks tests -name third_party -prune -o \( -name "*.h" -o -name "*.cpp" -o -name "*.cu*" \) -print
# The loops in the flags of their build; the kernels with the header that emulates CUDA's.
TIDY := xargs -P $(shell nproc) -I FILE $(BIN)/clang-tidy --quiet
lint: $(INSTALLED) ## ruff, mypy, clang-format and clang-tidy; the workflows' schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline .github
	$(CXX_FILES) | xargs $(BIN)/clang-format --dry-run --Werror
	find csrc src benchmarks/yardsticks -name "*.cpp" | $(TIDY) -p "$$(dirname "$$(ls -t build/*/compile_commands.json | head -1)")" \
	  --extra-arg=-w FILE
	find csrc/cuda -name "*.cu" | $(TIDY) FILE -- -x c++ -std=c++17 -w -Itests/emulator -Icsrc/include -Icsrc

format: $(INSTALLED) ## let ruff and clang-format write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CXX_FILES) | xargs $(BIN)/clang-format -i

stubs: $(INSTALLED) ## type stubs of the compiled module, from its table of parameters
	$(BIN)/python src/numpy/stubs.py

RESULTS := benchmarks/results
# A run says what made it.
TIMED = BENCHMARK_COMMAND="make $@" $(BIN)/python -m pytest --benchmark-enable --benchmark-only --benchmark-sort=name
COLUMNS := --benchmark-columns=min,median,stddev,rounds

bench: $(INSTALLED) ## all benchmarks but the networks, timed; keeps the run in benchmarks/results/
	$(TIMED) $(COLUMNS) benchmarks --ignore=benchmarks/bench_networks.py --ignore=benchmarks/bench_gpu.py \
	  --benchmark-storage=file://$(RESULTS) --benchmark-autosave
	$(BIN)/python -m benchmarks.report table

bench-networks: $(INSTALLED) ## the paper's networks at its sizes, with the fusion: ms, fps, memory; four minutes
	$(TIMED) --benchmark-columns=median,ops,rounds benchmarks/bench_networks.py --benchmark-json=$(RESULTS)/latest-networks.json
	$(BIN)/python -m benchmarks.report table $(RESULTS)/latest-networks.json

systems: $(INSTALLED) ## docs/systems.md: all networks counted and drawn from themselves; TIME=--time: timed; ten minutes, 6 GB
	$(BIN)/python -m benchmarks.systems $(TIME)

bench-quick: $(INSTALLED) ## two scenes in under two minutes
	$(TIMED) $(COLUMNS) benchmarks -m quick --benchmark-json=$(RESULTS)/latest-quick.json
	$(BIN)/python -m benchmarks.report table $(RESULTS)/latest-quick.json

bench-compare: $(INSTALLED) ## has it become slower, and what in it? Beside plain C++; BASE=FOLDER: beside another checkout's build
	$(BIN)/python -m benchmarks.tracking compare $(if $(BASE),--base $(BASE))

bench-save: $(INSTALLED) ## stores what bench-compare compares with on this machine
	$(BIN)/python -m benchmarks.tracking store

bench-docs: $(INSTALLED) ## the tables and plots of the documents, from the newest kept run
	$(BIN)/python -m benchmarks.report docs

# Both libraries rebuilt with sanitizers, in a place of their own that goes before the editable install.
asan: $(INSTALLED) ## fuzz and bad-input tests under address and undefined-behavior sanitizers
	$(BIN)/pip install -q --no-build-isolation --no-deps --upgrade --target build/asan/site \
	  -C build-dir=build/asan/cmake -C cmake.define.DEEPERLAB_SANITIZE=ON -C cmake.build-type=Debug .
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	PYTHONPATH=$(CURDIR)/build/asan/site DEEPERLAB_INSTALLED=$(CURDIR)/build/asan/site \
	  $(BIN)/python -m pytest tests/test_bad_input.py tests/test_bad_ops.py tests/test_fuzz.py tests/test_simd.py \
	  tests/test_stages.py tests/test_overlap.py tests/test_runs.py tests/test_draw.py \
	  tests/test_png.py tests/test_resample.py tests/test_signals.py tests/test_encode.py tests/test_semantic_loss.py \
	  tests/test_top_down.py

# Wheels need nothing of the virtual environment above: they are built and checked by tools of their own.
TOOLS := build/tools-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
WHEEL := $(TOOLS)/bin/python .ci/wheel.py --cuda $(or $(CUDA),ON)
GATES := $(TOOLS)/bin/python .ci/gates.py
wheel: $(TOOLS)/.installed ## dist/: the gated wheel of this Python, and the sdist; CUDA=OFF: no kernels; FAST=1: loads without torch
	$(WHEEL)
	$(GATES) $(if $(FAST),--cheap)

wheels: $(TOOLS)/.installed ## dist/: the gated wheels of every Python that is found, and the sdist
	$(WHEEL) --all
	$(GATES) $(if $(FAST),--cheap)

wheel-again: $(TOOLS)/.installed ## build dist/ anew, and compare the bytes
	$(WHEEL) --again

sdist: $(TOOLS)/.installed ## dist/: the sdist alone
	$(TOOLS)/bin/python -m build --sdist --outdir dist .

gates: $(TOOLS)/.installed ## what is in dist/ through the gates; FILES: these files
	$(GATES) $(FILES)

install-check: $(TOOLS)/.installed ## what the wheels of dist/ do in fresh environments; FAST=1: beside one torch
	$(TOOLS)/bin/python .ci/install_check.py $(if $(FAST),--cheap)

OLD_ROOT := build/glibc231
old-glibc: $(TOOLS)/.installed ## the wheel of dist/ for Python 3.11, with glibc 2.31 in a root of Debian 11; as root, 5 minutes once
	.ci/glibc231.sh $(OLD_ROOT)
	PYTHON=$(TOOLS)/bin/python TORCH='$(TORCH)' .ci/old_glibc.sh $(OLD_ROOT)

$(TOOLS)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("the tools for wheels need Python >= 3.11; with it, make wheels builds for 3.10 too" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip install -q --upgrade pip
	$(TOOLS)/bin/pip install -q --group wheel
	@touch $@

compilers: $(INSTALLED) $(TOOLS)/.installed ## compiles the sources with Clang, for Linux and for macOS on arm64
	PYTHON=$(BIN)/python ZIG="$(TOOLS)/bin/python -m ziglang" .ci/compilers.sh

aarch64: $(INSTALLED) $(TOOLS)/.installed ## the wheel for Linux on aarch64, which must compute the stored digests under qemu
	PYTHON=$(BIN)/python TOOLS=$(TOOLS)/bin .ci/aarch64.sh

clean: ## everything that was built; not the virtual environment
	rm -rf build dist demo

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by itself: asked for through the project, the newest build would be taken instead.
$(VENV)/.torch: | $(BIN)/pip
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q $(TORCH)
	@touch $@

$(INSTALLED): $(SOURCES) | $(VENV)/.torch
	$(BIN)/pip install -q --group build
	$(BIN)/pip install -q --no-build-isolation -C cmake.define.DEEPERLAB_WERROR=ON -e '.[dev]'
	@rm -f $(VENV)/.installed* && touch $@
