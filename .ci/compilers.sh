#!/usr/bin/env bash
# Compiles the sources with Clang: for Linux on x86-64, where the result must compute the stored digests, and the NumPy
# part for macOS on arm64, where nothing can be run from here. Zig brings Clang and both systems' headers: ZIG is the
# command that calls it, PYTHON an interpreter with pybind11 and NumPy. `make compilers` sets up both.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/compilers
export ZIG_GLOBAL_CACHE_DIR=$out/cache ZIG_LOCAL_CACHE_DIR=$out/cache

# As CMakeLists.txt has them, but for the optimization, which would take most of the time.
flags=(-std=c++17 -O1 -ffp-contract=off -fPIC -Wall -Wextra -Werror -Wno-psabi -Wno-bitwise-instead-of-logical)
flags+=(-Icsrc/include -Icsrc -Isrc -isystem src/third_party/torch/include -DTORCH_TARGET_VERSION=0x020b000000000000)
flags+=($("$PYTHON" -c "import sysconfig, pybind11
print('-isystem', sysconfig.get_path('include'), '-isystem', pybind11.get_include())"))

# compile TARGET SOURCE...: object files in $out/TARGET.
compile() {
  local target=$1
  shift
  rm -rf "${out:?}/$target"
  mkdir -p "$out/$target"
  printf '%s\n' "$@" | xargs -P "$(nproc)" -I SOURCE bash -c '"${@:3}" -c "$1" -o "$2/${1//\//_}.o"' - SOURCE \
    "$out/$target" $ZIG c++ -target "$target" "${flags[@]}"
}

numpy=(csrc/cpu/*.cpp src/numpy/*.cpp)
compile aarch64-macos "${numpy[@]}"
echo "Clang, macOS on arm64: ${#numpy[@]} sources compiled"

all=("${numpy[@]}" src/torch/operators.cpp)
compile x86_64-linux-gnu "${all[@]}"
objects=$out/x86_64-linux-gnu site=$out/x86_64-linux-gnu/site
mkdir "$site"
cp -r python/deeperlab "$site"
rm -f "$site"/deeperlab/*.so
$ZIG c++ -target x86_64-linux-gnu -shared "$objects"/{csrc_cpu,src_numpy}_*.o -o "$site/deeperlab/_numpy.so"
# Without `site`, which would put an editable installation first.
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
computed=$(PYTHONPATH=$site:$packages "$PYTHON" -S tests/digests.py numpy)
echo "Clang, Linux on x86-64: ${#all[@]} sources compiled, $computed"
