#!/usr/bin/env bash
# Edits a folder of plugins while examples/c/folder.c runs it, and checks what it tells:
#   examples/c/folder.sh PROGRAM BUILT_PLUGINS
set -euo pipefail
program=$1
built=$2
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT

# Copies a built plugin beside the others, under a name that is passed over, and puts it in place at once.
put() { # put BUILT IDENTITY
  mkdir "$plugins/.new"
  cp "$built/$1"/plugin.* "$built/$1"/bookmark "$plugins/.new/" 2>/dev/null || true
  mv "$plugins/.new" "$plugins/$2"
}

say() {
  printf '\n> %s\n' "$*"
  printf '%s\n' "$*" >&"${host[1]}"
}

# Shows what the host tells until a line has all of these in it.
expect() {
  local line part found
  while read -r -t 60 line <&"${host[0]}"; do
    printf '%.160s\n' "$line"
    found=1
    for part in "$@"; do [[ $line == *"$part"* ]] || found=; done
    [ -z "$found" ] || return 0
  done
  echo "the host did not tell: $*" >&2
  exit 1
}

put bookmark-wasm-c bookmarks
coproc host { "$program" "$plugins" 'config: {bookmarks: {user_agent: demo}, processes: {user_agent: demo}}'; }
# shellcheck disable=SC2154 # coproc sets it
pid=$host_PID
expect '"progress"' '"bookmarks"'
expect '= ok'
say call bookmarks help
expect '= {'

printf '\n# A plugin comes, as a process.\n'
put bookmark-grpc-go processes
expect '"started"' '"processes"'
say call processes help
expect '= {'

printf '\n# An edit that is no good: the old one goes on.\n'
cp "$plugins/bookmarks/plugin.yaml" "$plugins/.kept"
echo 'runtime: jvm' >"$plugins/bookmarks/plugin.yaml"
expect '"reload_failed"' '"bookmarks"'
say call bookmarks help
expect '= {'

printf '\n# It is mended.\n'
cp "$plugins/.kept" "$plugins/bookmarks/plugin.yaml"
expect '"reloaded"' '"bookmarks"'

printf '\n# The process takes the place of the module, without a call refused.\n'
cp "$built/bookmark-grpc-go/bookmark" "$built/bookmark-grpc-go/plugin.yaml" "$plugins/bookmarks/"
expect '"reloaded"' '"bookmarks"'
say call bookmarks help
expect '= {'

printf '\n# A folder is deleted.\n'
rm -r "$plugins/processes"
expect '"unloaded"' '"processes"'
say call processes help
expect '! not_found'
say list
expect '"identity":"bookmarks"' '"state":"running"'

eval "exec ${host[1]}>&-"
wait "$pid"
