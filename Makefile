# The commands of this project. `make` alone lists them.

CARGO ?= cargo

.PHONY: help setup build demo test test-kernels test-fleets lint bench bench-compare dist

help:
	@echo "make build         install what the build needs, build both programs in target/release"
	@echo "make demo          build, run a guest, trace it, write report.html"
	@echo "make test          install what the tests need, run them"
	@echo "make test-kernels  the lab's tests on each kernel that can be downloaded"
	@echo "make test-fleets   docs/sql on Spark (450 MB of packages, Java)"
	@echo "make lint          formatting, clippy (warnings are errors), licences of dependencies"
	@echo "make bench         cost of tracing, bytes per fault, speed of replay (root)"
	@echo "make bench-compare OLD=..."
	@echo "                   this build and another in turns; OLD: a git revision, or a folder with"
	@echo "                   its \`collector\` and \`analyzer\` (root for what is recorded)"
	@echo "make dist          static binaries as a tarball and a Debian package in target/dist"

setup:
	@.ci/setup build

build: setup
	$(CARGO) build --release --locked
	@mkdir -p target/release
	@ln -sf $(addprefix ../x86_64-unknown-linux-gnu/release/,collector analyzer) target/release/

demo: build
	@.ci/demo

test:
	@.ci/setup test
	@.ci/test

test-kernels: build
	@.ci/setup kernels
	@.ci/test-kernels

test-fleets:
	@.ci/setup fleets
	@.ci/test-fleets

lint:
	@.ci/setup lint
	@.ci/lint

bench: build
	@.ci/bench

bench-compare: build
	@.ci/bench-compare "$(OLD)"

dist: build
	@.ci/dist
