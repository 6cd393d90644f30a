#!/bin/sh
# Writes the Go code of proto/flowbot_plugin.proto anew. Needs nothing but Go.
set -eu
cd "$(dirname "$0")/internal/generate"
exec go run . ../../../..
