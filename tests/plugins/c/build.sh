#!/bin/sh
# Builds each folder here into OUT/c-<folder>/{plugin.yaml,plugin.wasm}: tests/plugins/c/build.sh OUT
# Debian: clang lld wasi-libc libclang-rt-dev-wasm32
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT}
for folder in "$here"/*/; do
  name=$(basename "$folder")
  mkdir -p "$out/c-$name"
  # Debug info goes, names stay: the name section gives backtraces their names.
  clang --target=wasm32-wasi --sysroot=/usr -mexec-model=reactor -O2 -Wall -Wextra -Werror -Wl,--strip-debug \
    -I"$here/../../../sdk/c" -o "$out/c-$name/new" "$folder$name.c"
  mv "$out/c-$name/new" "$out/c-$name/plugin.wasm"
  cp "${folder}plugin.yaml" "$out/c-$name/plugin.yaml"
done
