#!/bin/sh
# Regenerates flowplug_sdk/pb from the repository's proto/. Needs grpcio-tools:
#   sdk/python/generate.sh target/venv/bin/python
# The generated modules want a protobuf and grpcio at least as new as the grpcio-tools used; pyproject.toml names them.
set -eu
python=$(command -v "${1:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")"
# The virtual path makes the generated imports absolute within the package.
"$python" -m grpc_tools.protoc "-Iflowplug_sdk/pb=../../proto" --python_out=. --pyi_out=. --grpc_python_out=. \
    ../../proto/flowbot_plugin.proto ../../proto/go_plugin.proto
# What the modules were made from, so that a test can tell when they are out of date without the generator.
(cd ../../proto && sha256sum flowbot_plugin.proto go_plugin.proto) >flowplug_sdk/pb/SOURCES
