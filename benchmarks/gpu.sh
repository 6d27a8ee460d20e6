#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build, test, sanitize and time the CUDA engine on a machine with a GPU, and write what was found.
#
#   benchmarks/gpu.sh [FOLDER]        results go to FOLDER, by default benchmarks/results
#
# Needs no network and no virtual environment: python3 must hold torch >= 2.11, numpy, pybind11, scikit-build-core, cmake,
# ninja, pytest and pytest-benchmark, and nvcc must be on PATH. The sanitizer runs if compute-sanitizer is there; what did not
# run is said at the end. STEPS="build tests" does a part: build, tests, sanitize and benchmarks, all by default. REHEARSE=1
# goes through everything on the CPU with small scenes. PYTHON names another interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=$(realpath -m "${1:-benchmarks/results}")
SITE=$PWD/build/gpu/site
mkdir -p "$OUT"
STEPS=${STEPS:-build tests sanitize benchmarks}
failed=() skipped=()
wanted() { [[ " $STEPS " == *" $1 "* ]]; }

step() { # NAME COMMAND...: goes on after a failure, which the end of the script tells
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

if [[ -n ${REHEARSE:-} ]]; then
  device=cpu
  architectures=90
  tests=tests/test_cuda_kernels.py
else
  device=cuda
  architectures=native
  tests="tests/test_cuda_device.py tests/test_fuse.py"
  export DEEPERLAB_TEST_DEVICE=cuda
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || failed+=("nvidia-smi")
fi

if wanted build; then
  echo "== build"
  "$PYTHON" -m pip install -q --no-build-isolation --no-deps --upgrade --target "$SITE" -C build-dir=build/gpu/cmake \
    -C cmake.define.DEEPERLAB_CUDA=ON -C cmake.define.CMAKE_CUDA_ARCHITECTURES=$architectures . || exit 1
fi
export PYTHONPATH=$SITE:$PWD DEEPERLAB_INSTALLED=$SITE
# An editable install would go before it, and another build would be tested without a word.
"$PYTHON" -c 'import os, deeperlab._numpy as n; assert n.__file__.startswith(os.environ["DEEPERLAB_INSTALLED"]), n' ||
  [[ -n ${REHEARSE:-} ]] || exit 1

# Without the project's settings, which ask for plugins that may not be there.
pytest() { # [RUNNER...] -- ARGUMENTS...
  local runner=()
  while [[ $1 != -- ]]; do runner+=("$1") && shift; done
  "${runner[@]}" "$PYTHON" -m pytest -q -c /dev/null --rootdir="$PWD" -p no:cacheprovider --import-mode=importlib \
    -o pythonpath="$PWD/tests" -o python_files="test_*.py bench_*.py" -o python_functions="test_* bench_*" "${@:2}"
}

if wanted tests; then step tests pytest -- $tests; else skipped+=("tests: not asked for"); fi

if ! wanted sanitize; then
  skipped+=("compute-sanitizer: not asked for")
elif [[ $device == cuda ]] && command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    # Torch's pool would hide what lies outside an allocation.
    step "$tool" pytest env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $tool --error-exitcode 9 -- \
      benchmarks/bench_gpu.py -k "fuse or params or crf" --benchmark-disable
  done
else
  skipped+=("compute-sanitizer")
fi

if ! wanted benchmarks; then
  skipped+=("benchmarks: not asked for")
elif [[ $device == cuda ]]; then
  for name in gpu networks; do
    json=$OUT/$name-$(date +%F).json
    step $name pytest -- benchmarks/bench_$name.py --benchmark-enable --benchmark-only --benchmark-json="$json"
    step "$name, table" "$PYTHON" -m benchmarks.report table "$json"
  done
else
  step benchmarks pytest -- benchmarks/bench_gpu.py benchmarks/bench_networks.py --benchmark-disable
fi

((${#skipped[@]})) && printf 'not run: %s\n' "${skipped[@]}"
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "all of it passed"
