#!/usr/bin/env bash
# S4: builds and runs extism.c against this tree's library and libextism (PyPI's extism-sys, in target/venv).
# Usage: benches/extism.sh, after `make build`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=target/benches/extism
mkdir -p "$out/echo"
target/venv/bin/pip install --quiet extism-sys==1.41.0
libextism=$(target/venv/bin/python -c 'import extism_sys, os; print(os.path.dirname(extism_sys.__file__))')
wat2wasm benches/support/echo.wat -o "$out/echo/echo.wasm"
wat2wasm benches/support/extism_echo.wat -o "$out/extism.wasm"
echo '{name: echo, runtime: wasm, wasm: {module: echo.wasm}}' >"$out/echo/plugin.yaml"
cc -std=c11 -O2 -Wall -Wextra -Werror -Iinclude benches/extism.c -o "$out/extism" \
  -Ltarget/debug -lflowplug -L"$libextism" -lextism_sys -Wl,-rpath,"$PWD/target/debug" -Wl,-rpath,"$libextism"
"$out/extism" "$out/echo" "$out/extism.wasm"
