#!/bin/sh
# Builds the hostile process into OUT/process-hostile/{plugin.yaml,hostile}: tests/plugins/process/build.sh OUT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT}/process-hostile
mkdir -p "$out"
${CC:-cc} -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -o "$out/new" "$here/hostile.c" -lpthread
mv "$out/new" "$out/hostile"
cp "$here/plugin.yaml" "$out/plugin.yaml"
