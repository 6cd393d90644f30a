#!/bin/sh
# Compiles and runs every C test: tests/c/run.sh [LIBDIR [PLUGINS_DIR [NAME...]]]
#
#   LIBDIR       the folder of libflowplug.so; target/debug if not given
#   PLUGINS_DIR  the folder of built plugins; target/plugins if not given
#   NAME...      only these tests (garbage, hostapi, ...), without the checks of the header and of the example
#
# Twice: as it is, and with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, which are proven to be on. The
# example host runs under them too, and under Valgrind. SANITIZE=no leaves the second pass out.
# Debian: gcc g++ libcurl4-openssl-dev valgrind
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
lib=$(cd "${1:-$root/target/debug}" && pwd) || exit 2
plugins=$(cd "${2:-$root/target/plugins}" && pwd) || exit 2
shift $(($# < 2 ? $# : 2))
all="guest abi garbage manifest dispatch modules hostapi limits files bypass lifecycle reload callbacks detached signals manager soak"
# Those that run a second time with detached callbacks.
both=" garbage hostapi lifecycle reload callbacks manager "
tests=${*:-$all}
out=$(mktemp -d)
site_pid=
trap 'if [ -n "$site_pid" ]; then kill "$site_pid"; fi; rm -rf "$out"' EXIT
export FLOWPLUG_TEST_CACHE="$out/cache"
failed=0
strict="-Wall -Wextra -Werror -pedantic"
cc=${CC:-cc}
cxx=${CXX:-c++}

# What a step is called, and the command; a step that fails is remembered and the rest goes on.
step() {
  name=$1
  shift
  if "$@" >"$out/log" 2>&1; then
    echo "ok $name"
  else
    echo "FAILED $name (exit code $?)"
    tail -n 40 "$out/log" | sed 's/^/  /'
    failed=$((failed + 1))
  fi
}

must_fail() { ! "$@"; }

exits() { # exit code, then the command
  code=$1
  shift
  "$@"
  [ $? -eq "$code" ]
}

build() { # name, then flags
  build_name=$1
  shift
  $cc -std=c11 $strict -g "$@" -I"$root/include" -I"$root/sdk/c" -o "$out/$build_name" "$root/tests/c/$build_name.c" -L"$lib" -lflowplug -Wl,-rpath,"$lib" -lpthread
}

run() { # pass, then flags
  pass=$1
  shift
  for test in $tests; do
    echo "== $test, $pass"
    if ! build "$test" "$@"; then
      failed=$((failed + 1))
      continue
    fi
    program "$test" "$pass"
    case $both in *" $test "*) FLOWPLUG_TEST_CALLBACKS=detached program "$test" "$pass, callbacks detached" ;; esac
  done
}

program() { # test, pass
  "$out/$1" "$plugins" 2>"$out/stderr"
  code=$?
  [ $code -eq 0 ] && return
  failed=$((failed + 1))
  echo "FAILED $1, $2 (exit code $code); the end of its standard error:"
  tail -n 40 "$out/stderr" | sed 's/^/  /'
}

header() {
  for standard in c99 c11; do step "header as $standard" $cc -x c -std=$standard $strict -fsyntax-only "$root/include/flowplug.h"; done
  for standard in c++11 c++20; do step "header as $standard" $cxx -x c++ -std=$standard $strict -fsyntax-only "$root/include/flowplug.h"; done
  for standard in c++11 c++20; do
    step "abi.c as $standard" $cxx -x c++ -std=$standard $strict -I"$root/include" -o "$out/abi-$standard" "$root/tests/c/abi.c" -L"$lib" -lflowplug -Wl,-rpath,"$lib"
    step "abi.c as $standard, run" "$out/abi-$standard"
  done
}

canaries() {
  step "canary builds" $cc -std=c11 -g $sanitizers -Wno-all -o "$out/canary" "$root/tests/c/canary.c"
  step "canary without a fault is clean" "$out/canary"
  for fault in overflow freed leak undefined; do step "the sanitizer sees: $fault" must_fail "$out/canary" $fault; done
}

site() {
  python3 -u "$root/examples/site.py" >"$out/site" 2>"$out/site.log" &
  site_pid=$!
  tries=0
  while ! grep -qs '^http' "$out/site" && [ $tries -lt 1000 ]; do
    tries=$((tries + 1))
    kill -0 "$site_pid" || return 1
    sleep 0.01
  done
  url=$(head -n 1 "$out/site")
}

example() {
  site || { echo "FAILED examples/site.py did not start"; failed=$((failed + 1)); return; }
  folders=
  for folder in bookmark-wasm-c bookmark-wasm-go bookmark-grpc-go bookmark-grpc-python; do folders="$folders $plugins/$folder"; done
  link="-L$lib -lflowplug -Wl,-rpath,$lib -lcurl -lpthread"
  step "example builds" $cc -std=c11 $strict -g -I"$root/include" -o "$out/host" "$root/examples/c/host.c" $link
  step "example" "$out/host" "$url" $folders
  step "example of a folder builds" $cc -std=c11 $strict -g -I"$root/include" -o "$out/folder" "$root/examples/c/folder.c" $link
  step "example of a folder, edited live" "$root/examples/c/folder.sh" "$out/folder" "$plugins"
  [ "${SANITIZE:-yes}" = no ] && return
  step "example builds with sanitizers" $cc -std=c11 $strict -g $sanitizers -I"$root/include" -o "$out/host-asan" "$root/examples/c/host.c" $link
  step "example under the sanitizers" "$out/host-asan" "$url" $folders
  step "example of a folder builds with sanitizers" $cc -std=c11 $strict -g $sanitizers -I"$root/include" -o "$out/folder-asan" "$root/examples/c/folder.c" $link
  step "example of a folder under the sanitizers" "$root/examples/c/folder.sh" "$out/folder-asan" "$plugins"
  # The plugin in C alone: Valgrind 3.19 does not know pidfd_open, which watches the processes of gRPC plugins.
  memcheck="valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"
  step "valgrind is there and sees a leak" exits 9 $memcheck "$out/canary-plain" leak
  step "example under valgrind" $memcheck --suppressions="$root/tests/c/valgrind.supp" "$out/host" "$url" "$plugins/bookmark-wasm-c"
}

sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
step "canary builds plainly" $cc -std=c11 -g -Wno-all -o "$out/canary-plain" "$root/tests/c/canary.c"
[ $# -gt 0 ] || header
run plain -O1
if [ "${SANITIZE:-yes}" != no ]; then
  canaries
  run sanitized -O1 $sanitizers
fi
[ $# -gt 0 ] || example

if [ $failed -ne 0 ]; then
  echo "$failed step(s) failed"
  exit 1
fi
echo "all passed"
