GOLANGCI_VERSION := v2.15.0
GOLANGCI         := .cache/bin/golangci-lint-$(GOLANGCI_VERSION)
INTEGRATION_TIMEOUT ?= 30m

.DEFAULT_GOAL := help
.PHONY: help build test test-unit test-integration lint bench bench-strategies bench-purge images demo clean go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: go ## build bin/invalidator, a static binary
	CGO_ENABLED=0 go build -o bin/invalidator ./cmd/invalidator

test: test-unit test-integration ## run all tests; needs a Docker engine

test-unit: go ## run the tests that need no servers, with the race detector where there is a C compiler
	@if command -v "$$(go env CC)" >/dev/null; then race=-race; else \
		echo "no C compiler: the unit tests run without the race detector (install gcc and the C library's headers)"; fi; \
	packages=$$(go list ./... | grep -v /integration) && \
	echo "go test $$race -short, without integration/" && go test $$race -short $$packages && \
	echo "go test -run Explorer ./pkg/cacheaside, every schedule" && go test -run Explorer ./pkg/cacheaside

test-integration: go ## run the tests against real MySQL, Postgres and Redis in containers
	@environment=$$(integration/images/ensure) && eval "$$environment" && \
	echo "go test ./integration/..." && go test -count=1 -timeout $(INTEGRATION_TIMEOUT) ./integration/...

lint: go $(GOLANGCI) ## run golangci-lint and go vet, and check that go.mod is tidy, here and in bench/
	@for module in . bench; do (set -ex; cd $$module; "$(CURDIR)/$(GOLANGCI)" run ./...; go vet ./...; go mod tidy -diff) || exit; done

$(GOLANGCI):
	@echo "installing golangci-lint $(GOLANGCI_VERSION) into .cache/bin (a few minutes, once)"
	@mkdir -p .cache/bin
	@GOBIN="$(CURDIR)/.cache/bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv .cache/bin/golangci-lint $@

bench: go ## compare reads with other libraries side by side, 5 minutes; BENCH_FLAGS=-quick: a minute
	@cd bench && ./with-redis go run . $(BENCH_FLAGS)

bench-strategies: go ## measure the read strategies at expiry and deletion, 70 s
	@cd bench && ./with-redis go run ./strategies $(BENCH_FLAGS)

bench-purge: go ## measure what a purge of a million keys costs other clients, 2 minutes
	@cd bench && ./with-redis go run ./purge $(BENCH_FLAGS)

images: ## pull or build the images that the integration tests run on
	@integration/images/ensure

demo: build ## run the embedded demo
	bin/invalidator demo

clean: ## remove what the other targets have built here, images excepted
	rm -rf bin .cache

go:
	@command -v go >/dev/null || { echo "no go command: install the version that go.mod names, or a later one" >&2; exit 1; }
