#!/usr/bin/env bash
# sysroot.sh FOLDER: what Debian's g++ 12 needs to link for glibc 2.28 and the libstdc++ of GCC 8, as manylinux_2_28 promises.
#
# A binary linked as usual needs the glibc of this machine, for the linker takes the newest version of each symbol. The PyPI
# package ziglang has the headers and the lists of symbols of every glibc; of these comes a folder for `g++ --sysroot`.
# What g++ 12 calls and the library of GCC 8 does not have is in libstdcxx_8.cpp. PYTHON is an interpreter with ziglang.
set -euo pipefail
root=$1 here=$(cd "$(dirname "$0")" && pwd)
target=x86_64-linux-gnu
include=$root/usr/include lib=$root/usr/lib/$target cache=$root/cache
zig=$("$PYTHON" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/lib/libc/include

rm -rf "$root"
mkdir -p "$include/$target" "$lib" "$root/lib64" "$cache"
for part in generic-glibc any-linux-any x86-linux-any x86-linux-gnu; do cp -r "$zig/$part/." "$include/"; done
rm "$include/sys/single_threaded.h" # came with glibc 2.32; libstdc++ asks for it by __has_include
ln -s /usr/include/c++ "$include/c++"
ln -s "/usr/include/$target/c++" "$include/$target/c++"

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
cp "$made/libld.so.2" "$root/lib64/ld-linux-x86-64.so.2"
cp /usr/lib/"$target"/{crti.o,crtn.o,crt1.o,Scrt1.o,libc_nonshared.a} "$lib/"
rm "$lib/libc.so"
echo "GROUP ( /usr/lib/$target/libc.so.6 /usr/lib/$target/libc_nonshared.a AS_NEEDED ( /lib64/ld-linux-x86-64.so.2 ) )" \
  > "$lib/libc.so"
rm -r "$cache"

g++ --sysroot="$root" -D__GLIBC_MINOR__=28 -std=c++17 -O2 -fPIC -c "$here/libstdcxx_8.cpp" -o "$root/libstdcxx_8.o"
