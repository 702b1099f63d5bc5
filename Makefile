# `make` prints the targets. Variables pass through, as in `make up TEMPLATES=my-templates DISPATCHER=0`.
stack := deploy/local/stack

.PHONY: help up down status demo test test-clients

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

up: ## start RabbitMQ, Redis, Kubernetes and the dispatcher; addresses in target/stack/env
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
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
	@deploy/local/test

test-clients: ## the example clients in five languages, against a stack of their own
	cargo build --bin jobquay
	@deploy/local/test-clients
