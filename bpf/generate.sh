#!/bin/sh
# generate.sh DIR: compiles the BPF objects into DIR, byte for byte the same for
# the same clang (Debian 12's, 14.0.6, made the committed ones).
#
# Why each flag: -fno-ident and the two debug flags keep compiler build and paths
# out of the object; -g gives .BTF, which describes the maps, and llvm-strip -g
# takes the DWARF away again; -mcpu=v1 loads on every kernel; linux/bpf.h wants
# asm/types.h, which Debian keeps in a folder by architecture.
set -eu
out=$(cd "${1:?generate.sh DIR}" && pwd)
cd "$(dirname "$0")"
for name in tcp_connect; do
	"${CLANG:-clang}" -target bpfel -mcpu=v1 -O2 -g -Wall -Wextra -Werror \
		-fno-ident -fdebug-compilation-dir . -ffile-prefix-map="$PWD"=. \
		-idirafter "/usr/include/$(uname -m)-linux-gnu" \
		-c "$name.c" -o "$out/${name}_bpfel.o"
	"${LLVM_STRIP:-llvm-strip}" -g "$out/${name}_bpfel.o"
done
