# Sluice. `make help` says what there is; `make demo` and `make test` are what a new reader wants.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PROGRAM := target/deploy/sluice.so
# One cargo call for everything that runs: two would choose two sets of features and build the Solana crates twice.
BINARIES := -p sluice-localnet -p sluice-relayer -p sluice-cli -p sluice-demo
# Seconds that `make fuzz` gives each target.
FUZZ_SECONDS ?= 300

.PHONY: help
help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: tools
tools: ## Check that a compiler, cargo and the rest are there, and say how to get what is missing
	@scripts/check-tools.sh

.PHONY: program
program: tools ## Build the on-chain program: target/deploy/sluice.so
	@+scripts/build-program.sh

.PHONY: binaries
binaries: tools ## Build validator, relayer, CLI and demo
	@+cargo build --locked $(BINARIES)

# Side by side: setting the program's toolchain up is mostly waiting for downloads. The `+` lets the two share
# make's job slots.
.PHONY: everything
everything:
	@$(MAKE) --no-print-directory -j$$(nproc) program binaries

.PHONY: demo
demo: everything ## Watch payments happen on a local validator, from nothing to the receipts
	@target/debug/sluice-demo

.PHONY: demo-up
demo-up: everything ## The same, left running with its URLs printed (Ctrl-C ends it)
	@target/debug/sluice-demo --keep

.PHONY: test
test: program ## Every test: pure core, program in LiteSVM, relayer, CLI, end to end over HTTP
	@cargo test --locked --workspace

.PHONY: test-x402
test-x402: everything ## The published x402 packages of npm and PyPI, end to end through a relayer (needs Node)
	@tests/x402/run.sh

.PHONY: compare-x402
compare-x402: everything ## The same payments by our relayer and by the npm facilitator, written down in docs/compare.md
	@npm ci --prefix clients/typescript --no-audit --no-fund --loglevel=error && npm run --prefix clients/typescript --silent build
	@npm ci --prefix tests/x402 --no-audit --no-fund --loglevel=error && node tests/x402/src/compare.mjs --accept

.PHONY: fuzz
fuzz: ## Fuzz the pure core and the arguments of settle, 5 minutes a target (FUZZ_SECONDS=...); installs nothing
	@+nice fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: fuzz-short
fuzz-short: ## The same for 10 seconds a target, as CI does
	@+fuzz/run.sh 10

MODEL_CASES ?= 4000
.PHONY: model-long
model-long: program ## The program against its model, thousands of sequences from another seed each time
	@seed=$$RANDOM; echo "seed $$seed"; PROPTEST_CASES=$(MODEL_CASES) PROPTEST_RNG_SEED=$$seed \
	  cargo test --locked --workspace --test model -- --nocapture

.PHONY: bench
bench: program ## What a payment costs: compute units, bytes, lamports (target/bench/program.json)
	@cargo run --locked --quiet -p sluice-tests --bin bench

# Our own crates as a release has them. Third-party ones are optimised anyway, so this compiles nothing twice but ours.
OPTIMISED := $(foreach crate,intent sdk relayer localnet demo,--config 'profile.dev.package.sluice-$(crate).opt-level=3')

.PHONY: load
load: program ## Drive a relayer with hundreds of payers, and measure (target/bench/relayer.json, .svg)
	@cargo build --locked $(OPTIMISED) $(BINARIES)
	@target/debug/sluice-load $(LOAD_ARGS)

.PHONY: load-accept
load-accept: ## The same, and write the figures down in docs/load.md
	@$(MAKE) --no-print-directory load LOAD_ARGS=--accept

.PHONY: bench-accept
bench-accept: program ## Measure, and write the figures down even where they are worse
	@cargo run --locked --quiet -p sluice-tests --bin bench -- --accept

.PHONY: idl
idl: ## Rebuild idl/sluice.json
	@cargo run --locked --quiet -p sluice-tests --bin idl -- --write

.PHONY: vectors
vectors: ## Rebuild tests/vectors/ from the pure core
	@cargo run --locked --quiet -p sluice-intent --example vectors

.PHONY: lint
lint: ## Formatting and lints, warnings as errors
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: fmt
fmt: ## Format everything
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

.PHONY: clean
clean: ## Remove what was built (the toolchain in the cache folder stays)
	@cargo clean
