#!/bin/sh
# Puts the plugin's folder together: build.sh OUT PYTHON
# PYTHON is the interpreter that will run it.
set -eu
[ $# -eq 2 ] || { echo "usage: build.sh OUT PYTHON" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../../../sdk/python/assemble.sh" "$here" "$1" "$2" bookmark
