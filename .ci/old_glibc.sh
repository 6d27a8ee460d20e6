#!/usr/bin/env bash
# old_glibc.sh ROOT: installs the wheel of dist/ for CPython 3.11 into a fresh environment of the root that glibc231.sh made,
# with nothing of the sources there: it must load with glibc 2.31 and compute the stored digests, without torch and with it.
# PYTHON is an interpreter of the same version that fetches the requirements; TORCH is the torch to take. Run it as root.
set -euo pipefail
root=${1:?usage: old_glibc.sh ROOT}
cd "$(dirname "$0")/.."
wheel=$(echo dist/deeperlab-*-cp311-cp311-manylinux_2_28_x86_64.whl)
[ -e "$wheel" ] || { echo "dist/ has no wheel for CPython 3.11; make one with it: make wheel" >&2; exit 1; }

rm -rf "$root"/{wheels,env,check}
mkdir "$root"/{wheels,check}
cp "$wheel" "$root/wheels"
cp tests/digests.{py,json} "$root/check"
read -ra torch <<< "$TORCH" # may name an index too
"$PYTHON" -m pip download -q -d "$root/wheels" "$wheel" "${torch[@]}"

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp "$@"; }
inside /usr/local/bin/python3.11 -m venv /env
inside /env/bin/pip install -q --no-index --find-links /wheels deeperlab
inside /env/bin/python -c "import platform; print('with', *platform.libc_ver())"
inside /env/bin/python /check/digests.py numpy
inside /env/bin/pip install -q --no-index --find-links /wheels torch
inside /env/bin/python /check/digests.py numpy torch
inside /env/bin/deeperlab doctor
