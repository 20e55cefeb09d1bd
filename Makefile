# The commands of this project. `make` alone lists them.

CARGO ?= cargo

.PHONY: help setup build demo test test-kernels lint bench

help:
	@echo "make demo   set up, run a guest, trace it, write report.html"
	@echo "make test   set up, pass the tests"
	@echo "make test-kernels   the lab's tests on each kernel that can be downloaded"
	@echo "make lint   formatting and clippy, warnings are errors"
	@echo "make bench  cost of tracing, bytes a fault, speed of replay"

setup:
	@.ci/setup

build: setup
	$(CARGO) build --release --locked
	@mkdir -p target/release
	@ln -sf $(addprefix ../x86_64-unknown-linux-gnu/release/,collector analyzer) target/release/

demo: build
	@.ci/demo

test: setup
	@.ci/test

test-kernels: setup
	@.ci/test-kernels

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

bench: build
	@.ci/bench
