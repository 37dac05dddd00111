# Every command of this repository; `make` alone lists them.

CLUNK_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clunk
# Not shared between clones: cargo takes what another clone compiled for its own, with that clone's paths in it.
CARGO_TARGET_DIR ?= $(CURDIR)/target
VENV ?= $(CLUNK_CACHE)/venv
export CLUNK_CACHE CARGO_TARGET_DIR VENV
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Where the finished program is put: a path in the clone, whichever folder it was built in.
CLUNK := target/release/clunk

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check fmt openapi bench wheel clean
MAKEFLAGS += --no-print-directory

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (apt, as root), or say what to run
	@scripts/setup test

build: ## compile the release program to target/release/clunk
	@scripts/setup demo
	cargo build --release --package clunk
	@mkdir -p $(dir $(CLUNK))
	@[ "$(CARGO_TARGET_DIR)/release/clunk" -ef $(CLUNK) ] || { \
		cp "$(CARGO_TARGET_DIR)/release/clunk" $(CLUNK).new && mv -f $(CLUNK).new $(CLUNK); }
	@echo "built $(CLUNK)"

demo: build ## from nothing to a sentence model in a container
	@scripts/demo $(CLUNK)

test: setup ## run every test: Rust, then Python
	@scripts/test

check: ## what CI runs first: format, lints, tidy, API drift
	@scripts/setup demo
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo test --quiet --package clunk-tidy
	cargo test --quiet --package clunk-server --test api openapi

fmt: ## format the Rust code
	cargo fmt --all

openapi: ## write docs/openapi.json anew from the table of endpoints
	UPDATE=1 cargo test --quiet --package clunk-server --test api openapi

bench: build ## measure what SPEC.md promises (BENCH=--quick for a short run)
	@scripts/setup bench
	@python3 benches/all.py --clunk $(CLUNK) $(BENCH)

wheel: build ## pack the program and the SDK as a Python wheel in dist/
	@python3 scripts/wheel.py $(CLUNK) dist

clean: ## remove what was built here
	rm -rf target dist
