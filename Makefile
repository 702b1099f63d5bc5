# `make` prints the targets. Variables pass through, as in `make up TEMPLATES=my-templates DISPATCHER=0`.
stack := deploy/local/stack

.PHONY: help up down status demo test test-crashes test-faults soak test-clients test-brokers test-upgrade test-mutations bench bench-quick fuzz check-docs

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

up: ## start RabbitMQ, Redis, Kubernetes and REPLICAS dispatchers; addresses in target/stack/env
ifneq ($(DISPATCHER),0)
	cargo build --bin jobquay
endif
	@$(stack) up

down: ## end all of it, and drop its data
	@$(stack) down

status: ## what runs, and where
	@$(stack) status || true

demo: ## the main job on real parts, shown scene by scene
	cargo build --bin jobquay
	@deploy/local/demo

test: ## all checks and all tests, on real parts
	cargo fmt --check
	@deploy/local/test-mutations --fit
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --features crash-points -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
	cargo build --bin jobquay
	@deploy/local/test-clients go rust
	@deploy/local/test

# 13 points, 4 ways, 1 and 3 replicas. CRASHES selects by parts of names, as in CRASHES='created/,/STOP/3'.
CRASHES ?= all
test-crashes: ## end a dispatcher at each point of its work in each way, under load, and judge every run
	CRASHES='$(CRASHES)' deploy/local/test-crashes

# LENGTH is in seconds. SEED=0 draws one; a run that failed says its seed. FAULTS selects by parts of names, as in
# FAULTS=nemesis::, which is those drawn at random alone.
FAULTS ?=
RUNS ?= 14
LENGTH ?= 180
SEED ?= 0
AT_ONCE ?= 2
test-faults: ## every fault by itself, then RUNS times LENGTH seconds of faults drawn at random, three replicas under load
	NEMESIS_RUNS=$(RUNS) NEMESIS_SECONDS=$(LENGTH) NEMESIS_SEED=$(SEED) NEMESIS_AT_ONCE=$(AT_ONCE) deploy/local/test-faults $(FAULTS)

HOURS ?= 1
soak: ## HOURS of the same with a fault a minute: also memory, descriptors, and the latency of hits
	STACK_DIR=$${STACK_DIR:-$(CURDIR)/target/soak} STACK_PORTS=$${STACK_PORTS:-17192} NEMESIS_PAUSE=180 \
	  NEMESIS_SECONDS=$$(($(HOURS) * 3600)) NEMESIS_SEED=$(SEED) deploy/local/test-faults nemesis::

test-clients: ## the example clients in five languages, against a stack of their own
	cargo build --bin jobquay
	@deploy/local/test-clients

# Debian 12 has RabbitMQ 3.10, trixie 4.0, and sid what is newest.
SUITES ?= trixie sid
test-brokers: ## the tests that concern the broker, against RabbitMQ of other Debian suites (SUITES)
	cargo build --bin jobquay
	deploy/local/test-brokers $(SUITES)

# PARTS and what else `ratios run --help` names, as in BENCH='hits --rounds 3'.
BENCH ?=
bench: ## jobquay beside bare floors and beside what people use, as ratios; tables in target/bench/results.md
	deploy/local/bench run $(BENCH)

bench-quick: ## a few of these in three minutes; fails where a change has lost speed
	deploy/local/bench guard

# Any commit that can run beside this one.
PREVIOUS ?= HEAD^
test-upgrade: ## the build of PREVIOUS and this one take turns under load, up, down and up again
	PREVIOUS='$(PREVIOUS)' deploy/local/test-upgrade

# MISTAKES selects by parts of names, as in MISTAKES='tells owns'.
MISTAKES ?=
test-mutations: ## dispatchers with one mistake each (tests/mutations), of which the tests must see every one
	deploy/local/test-mutations $(MISTAKES)

# Needs a nightly compiler and `cargo install cargo-fuzz`.
FUZZ_SECONDS ?= 60
fuzz: ## each fuzzer for FUZZ_SECONDS; what it finds is put into target/fuzz/artifacts
	cargo +nightly fuzz build --sanitizer none --target-dir target/fuzz
	fuzz/seed target/fuzz/corpus
	@mkdir -p target/fuzz/artifacts
	@for target in request key render envelope job; do \
	  cargo +nightly fuzz run --sanitizer none --target-dir target/fuzz $$target target/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=target/fuzz/artifacts/$$target- -print_final_stats=1 || exit 1; \
	done

check-docs: ## AsyncAPI's own parser over docs/, and the keys made again in Python; needs Node 18 and Python 3.11
	@docs/check
