#!/usr/bin/env bash
# Make ROOT a place to try a wheel in: Debian 11, whose glibc 2.31 is of the oldest that a wheel must run on, with CPython 3.11.
# Run it as root on any Debian, with debootstrap and wget; then `chroot ROOT /usr/local/bin/python3.11 -m pip install ...`.
# Debian 11 has no Python that this package takes, so one of Debian 12 is compiled there. What is done already is left out.
set -euo pipefail
root=${1:?usage: glibc231.sh ROOT}
python=3.11.2
mirror=http://deb.debian.org/debian
checksum=2411c74bda5bbcfcddaf4531f66d1adc73f247f529aee981b029513aefdbf849 # as in dists/bookworm/main/source/Sources.xz

if [ ! -e "$root/made" ]; then
  mkdir -p "$root"
  # The libraries are those without which pip or ctypes would be left out; the wheel itself needs libstdc++.
  debootstrap --variant=minbase \
    --include=ca-certificates,gcc,make,libc6-dev,libstdc++6,zlib1g-dev,libffi-dev,libssl-dev,libbz2-dev,liblzma-dev \
    bullseye "$root" "$mirror"
  touch "$root/made"
fi

if [ ! -x "$root/usr/local/bin/pip3.11" ]; then
  source=$root/usr/src/Python-$python
  mkdir -p "$source"
  wget -qO "$source.tar.gz" "$mirror/pool/main/p/python3.11/python3.11_$python.orig.tar.gz"
  echo "$checksum  $source.tar.gz" | sha256sum --check --quiet
  tar -xzf "$source.tar.gz" -C "$source" --strip-components=1
  # One that passes its own tests is not needed, nor a fast one. install ends with ensurepip, and so makes pip3.11 last.
  chroot "$root" /bin/sh -ec "cd /usr/src/Python-$python
    ./configure --quiet --with-ensurepip=install
    make -s -j\"\$(nproc)\"
    make -s install" > "$root/python.log" 2>&1 || { tail -30 "$root/python.log" >&2; exit 1; }
  rm -rf "$source" "$source.tar.gz"
fi
chroot "$root" /usr/local/bin/python3.11 -c 'import bz2, ctypes, lzma, pip, platform, ssl, zlib; print(*platform.libc_ver(), platform.python_version())'
