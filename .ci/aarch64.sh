#!/usr/bin/env bash
# Builds the wheel for Linux on aarch64 with Debian 12's cross compiler, for glibc 2.28 as `make wheel` does, unpacks it
# beside Debian's Python for that processor, and runs it under qemu: it must compute the stored digests. The operators of
# torch (_C.so) are built, not run. PYTHON, which `make aarch64` sets up, has to be of the version of Debian's: a wheel is
# for one version. TOOLS is the folder of the programs of the dependency group `wheel`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "$PYTHON") tools=$(realpath -s "$TOOLS") out=$PWD/build/aarch64 root=$PWD/build/aarch64/root version=3.11
if [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != $version ]; then
  echo "$python: expected Python $version, as Debian 12 has; make a virtual environment with it" >&2
  exit 1
fi

if ! { command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64-static; } > /dev/null; then
  install=(apt-get install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user-static)
  if [ "$(id -u)" != 0 ]; then
    echo "a cross compiler or qemu is missing; as root: ${install[*]}" >&2
    exit 1
  fi
  apt-get update -q && "${install[@]}"
fi

# Debian's packages for arm64, unpacked and not installed: apt keeps its lists here, apart from those of the machine.
if [ ! -e "$out/.root" ]; then
  rm -rf "$root"
  mkdir -p "$out"/apt/{state/lists/partial,cache/archives/partial} "$out/debs" "$root"
  touch "$out/apt/status"
  apt=(apt-get -q -o "Dir::State=$out/apt/state" -o "Dir::State::status=$out/apt/status" -o "Dir::Cache=$out/apt/cache"
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root)
  "${apt[@]}" update > "$out/apt/log"
  (cd "$out/debs" && "${apt[@]}" download libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 \
    liblzma5 libuuid1 libpython$version-{minimal,stdlib,dev} python$version-minimal >> "$out/apt/log")
  for deb in "$out"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
  touch "$out/.root"
fi
if [ ! -e "$out/.numpy" ]; then
  "$python" -m pip download -q --no-deps --only-binary :all: --python-version $version \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 -d "$out/debs" numpy
  "$python" -m zipfile -e "$out"/debs/numpy-*.whl "$out/site"
  touch "$out/.numpy"
fi

[ -e "$out/sysroot/ldflags" ] || PYTHON=$tools/python .ci/sysroot.sh "$out/sysroot" aarch64

# CMake takes the headers of Debian's Python, whose pyconfig.h is that of the processor, and the suffix of its modules.
suffix=.cpython-${version/./}-aarch64-linux-gnu.so
rm -f "$out"/*.whl
_PYTHON_HOST_PLATFORM=linux-aarch64 CXXFLAGS="$(< "$out/sysroot/cxxflags") -isystem $root/usr/include" \
  "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$out" -C build-dir="$out/cmake" \
  -C cmake.define.CMAKE_SYSTEM_NAME=Linux -C cmake.define.CMAKE_SYSTEM_PROCESSOR=aarch64 \
  -C cmake.define.CMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -C cmake.define.PYTHON_MODULE_EXTENSION=$suffix \
  -C cmake.define.Python_INCLUDE_DIR="$root/usr/include/python$version" \
  -C cmake.define.CMAKE_MODULE_LINKER_FLAGS="$(< "$out/sysroot/ldflags")" \
  -C cmake.define.DEEPERLAB_CUDA=OFF -C cmake.define.DEEPERLAB_WERROR=ON .
wheel=$(echo "$out"/deeperlab-*.whl)
# auditwheel repairs wheels of its own processor only, but tells of any the oldest glibc that has all its symbols.
least=$("$tools/auditwheel" show "$wheel" | tr '\n' ' ' | sed -n 's/.*constrains the platform tag to "manylinux_2_\([0-9]*\)_aarch64".*/\1/p')
if [ "${least:-99}" -gt 28 ]; then
  echo "${wheel##*/} needs glibc 2.${least:-?}; expected at most 2.28" >&2
  exit 1
fi
echo "${wheel##*/}: loads from glibc 2.$least on"
rm -rf "$out"/site/deeperlab*
"$python" -m zipfile -e "$wheel" "$out/site"
echo "${wheel##*/}: $(cd "$out/site" && find deeperlab -name '*.so' | tr '\n' ' ')"

for form in plain baseline; do
  echo -n "aarch64, $form: "
  DEEPERLAB_SIMD=$form PYTHONPATH=$out/site PYTHONHOME=$root/usr \
    qemu-aarch64-static -L "$root" "$root/usr/bin/python$version" tests/digests.py numpy
done
