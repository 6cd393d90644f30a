# flowplug: a plugin host for programs in any language. `make` lists what can be done.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PREFIX ?= /usr/local
DESTDIR ?=
# What `install` installs: release, or dev (what demo and tests use, built already).
PROFILE ?= release

# cargo runs no LTO over a crate that is built as an rlib too, so what ships is built without one.
SHIPPED := rustc --lib --crate-type cdylib,staticlib
BUILT := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
export CARGO_TARGET_DIR := $(CURDIR)/target

.PHONY: help
help: ## this list
	@echo "make <target> [PREFIX=$(PREFIX)] [DESTDIR=] [PROFILE=release|dev]"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

.PHONY: setup
setup: ## find what is missing beyond Rust and Go, and get it (on Debian, by apt-get)
	@.ci/setup

.PHONY: build
build: setup ## the library, in target/debug (the first time: 10 to 15 minutes)
	@cargo build --lib --locked
	@.ci/install --in-place target/debug

.PHONY: plugins
plugins: setup ## the example and test plugins, in target/plugins
	@.ci/plugins

.PHONY: hosts
hosts: build ## the example programs that embed the library, in target/examples
	@.ci/hosts

.PHONY: demo
demo: hosts plugins ## the bookmark plugin in its four builds, called from C, Go and Python
	@.ci/demo

.PHONY: test
test: hosts plugins ## every test there is: Rust, C, Go, Python
	@.ci/test

.PHONY: soak
soak: build plugins ## the long tests: 10,000,000 calls, 100,000 loads, 1,000 hostile guests, reloads and kills, a tenth of it in Go
	@.ci/soak

.PHONY: bench
bench: build plugins ## the benchmarks; benches/README.md says what they measure
	@.ci/bench

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_SECONDS (60); fuzz/README.md says what they assert
	@.ci/fuzz

.PHONY: lint
lint: setup ## formatting and lints of every language
	@.ci/lint

.PHONY: header
header: ## write the generated files anew: the header, the schemas and src/grpc/pb
	@FLOWPLUG_REGENERATE=1 cargo test --quiet --locked --test generated

.PHONY: install
install: ## the library, header, pkg-config file and CMake package under PREFIX
	@cargo $(if $(filter dev,$(PROFILE)),build --lib,$(SHIPPED)) --locked --profile $(PROFILE)
	@.ci/install $(BUILT) "$(PREFIX)" "$(DESTDIR)"

.PHONY: clean
clean: ## what was built
	rm -rf target bindings/python/build bindings/python/src/*.egg-info
