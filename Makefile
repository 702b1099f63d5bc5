# `make` prints the targets. Variables pass through, as in `make up TEMPLATES=my-templates DISPATCHER=0`.
stack := deploy/local/stack

.PHONY: help up down status

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
