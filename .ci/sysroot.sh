#!/usr/bin/env bash
# sysroot.sh FOLDER [MACHINE]: what Debian's g++ 12 needs to link for glibc 2.28 and the libstdc++ of GCC 8, as the tag
# manylinux_2_28 promises, for x86_64 or, with the cross compiler, aarch64. FOLDER/cxxflags and FOLDER/ldflags use it.
#
# A binary linked as usual needs the glibc of this machine, for the linker takes the newest version of each symbol. The PyPI
# package ziglang has the headers and the lists of symbols of every glibc; of these comes a folder for `g++ --sysroot`.
# What g++ 12 calls and the library of GCC 8 does not have is in libstdcxx_8.cpp. PYTHON is an interpreter with ziglang.
set -euo pipefail
mkdir -p "$1"
root=$(cd "$1" && pwd) machine=${2:-x86_64} here=$(cd "$(dirname "$0")" && pwd)
target=$machine-linux-gnu cxx=$machine-linux-gnu-g++
case $machine in
  x86_64) kernel=x86 loader=lib64/ld-linux-x86-64.so.2 ;;
  aarch64) kernel=aarch64 loader=lib/ld-linux-aarch64.so.1 ;;
  *) echo "sysroot.sh: expected x86_64 or aarch64, got $machine" >&2 && exit 1 ;;
esac
include=$root/usr/include lib=$root/usr/lib/$target cache=$root/cache
zig=$("$PYTHON" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/lib/libc/include

mkdir -p "$include" "$lib" "$root/$(dirname "$loader")" "$cache"
for part in generic-glibc any-linux-any "$kernel-linux-any" "$kernel-linux-gnu"; do cp -r "$zig/$part/." "$include/"; done
rm "$include/sys/single_threaded.h" # came with glibc 2.32; libstdc++ asks for it by __has_include

# zig makes its libraries, of which only the symbols and their versions are true, when it links something.
echo 'int nothing(void) { return 0; }' > "$cache/nothing.c"
ZIG_GLOBAL_CACHE_DIR=$cache ZIG_LOCAL_CACHE_DIR=$cache "$PYTHON" -m ziglang cc -target "$target.2.28" -shared -fPIC \
  "$cache/nothing.c" -o "$cache/nothing.so" -lpthread -ldl -lm -lrt
made=$(dirname "$(find "$cache" -name libpthread.so.0)")
for name in c m pthread dl rt; do
  file=$(basename "$made"/lib$name.so.*)
  cp "$made/$file" "$lib/"
  ln -s "$file" "$lib/lib$name.so"
done
cp "$made"/libld.so.* "$root/$loader"
for name in crti.o crtn.o crt1.o Scrt1.o libc_nonshared.a; do cp "$("$cxx" -print-file-name=$name)" "$lib/"; done
rm "$lib/libc.so"
libc=/usr/lib/$target # within the root
echo "GROUP ( $libc/libc.so.6 $libc/libc_nonshared.a AS_NEEDED ( /$loader ) )" > "$lib/libc.so"
rm -r "$cache"

# The compiler's own headers by name, for with them a cross compiler would also find the headers of its own glibc.
own=$("$cxx" -E -v -x c++ /dev/null 2>&1 | sed -n 's|^ \(/.*/c++/.*\)|-isystem \1|p')
flags="--sysroot=$root -nostdinc $own -isystem $("$cxx" -print-file-name=include) -isystem $include -D__GLIBC_MINOR__=28"
echo $flags > "$root/cxxflags"
# Before glibc 2.34 these were libraries of their own, which nothing names where one library holds them all.
"$cxx" $flags -std=c++17 -O2 -fPIC -c "$here/libstdcxx_8.cpp" -o "$root/libstdcxx_8.o"
echo "-L$lib $root/libstdcxx_8.o -Wl,--push-state,--no-as-needed -lpthread -ldl -lrt -lm -Wl,--pop-state" > "$root/ldflags"
