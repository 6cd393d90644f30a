#!/bin/sh
# Builds each folder here into OUT/wat-<folder>/{plugin.yaml,plugin.wasm}: tests/plugins/wat/build.sh OUT
# Debian: wabt
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT}
for folder in "$here"/*/; do
  name=$(basename "$folder")
  mkdir -p "$out/wat-$name"
  wat2wasm --debug-names -o "$out/wat-$name/new" "$folder$name.wat"
  mv "$out/wat-$name/new" "$out/wat-$name/plugin.wasm"
  cp "${folder}plugin.yaml" "$out/wat-$name/plugin.yaml"
done
