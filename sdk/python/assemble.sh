#!/bin/sh
# Puts a Python plugin's folder together: assemble.sh SOURCE OUT PYTHON NAME
# OUT gets SOURCE's plugin.yaml and plugin.py, the SDK, and the executable NAME, which runs plugin.py with PYTHON. That interpreter
# must have grpcio, protobuf and grpcio-health-checking.
set -eu
[ $# -eq 4 ] || { echo "usage: assemble.sh SOURCE OUT PYTHON NAME" >&2; exit 2; }
sdk=$(cd "$(dirname "$0")" && pwd)
source=$1 out=$2 name=$4
# The path as it was given, links and all: a virtual environment's python is a link that must not be followed.
python=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
mkdir -p "$out"
cp "$source/plugin.yaml" "$source/plugin.py" "$out/"
rm -rf "$out/flowplug_sdk"
cp -R "$sdk/flowplug_sdk" "$out/"
"$python" -m compileall -q "$out"
# -B: a plugin's folder is watched for changes, so running it must not write there.
cat >"$out/$name" <<EOF
#!/bin/sh
exec "$python" -B "\$(dirname "\$0")/plugin.py"
EOF
chmod +x "$out/$name"
