# fleetd. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export GOTOOLCHAIN := local
# The same flags for every build: what was compiled once, for the binary, for a
# test or for the lab's control plane, is not compiled again.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fleetd-lab
FUZZTIME ?= 30s
GOLANGCI_LINT := $(CACHE)/tools/golangci-lint

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/fleetd, static
	go build -ldflags '$(LDFLAGS)' -o bin/fleetd ./cmd/fleetd

.PHONY: unit
unit: ## Quick tests: no root, no lab, under two minutes warm
	go test -short ./...

.PHONY: test
test: setup ## All tests, with real sshd, virtual machines and a real control plane (root, Debian 12)
	go run ./integration/lab build
	go test -timeout 20m $$(go list ./... | grep -v /integration)
	go test ./integration/lab/nodes
	# A virtual machine keeps one core busy, so two packages at a time. One
	# distribution for the kernel modules, without the faults that take minutes; the
	# end-to-end test has more machines, and kernel-lab the rest.
	FLEETD_LAB_FLAVOURS=el8 go test -short -tags lab -timeout 55m -p 2 ./integration ./pkg/kernel ./integration/lab/controlplane/...

.PHONY: kernel-lab
kernel-lab: setup ## The node lab's own tests, and the kernel modules on EL7, EL8 and EL9 (FLAVOURS="el7 el9", SHORT=-short without the faults that take minutes)
	FLEETD_LAB_FLAVOURS='$(FLAVOURS)' go test $(SHORT) -tags lab -timeout 120m -p 2 ./integration/lab/nodes ./pkg/kernel

.PHONY: realnodes-lab
realnodes-lab: setup ## Two machines with real kubelets: Services, the flip and back, a drain of real pods
	go test -tags lab -timeout 120m -v -run 'TestRealNodes$$' ./integration

.PHONY: crowd-lab
crowd-lab: setup ## A thousand nodes of kwok's: what a plan costs, a drain of all of them within its budgets
	go test -tags lab -timeout 60m -v -run 'TestThousandNodes$$' ./integration

.PHONY: setup
setup: ## Install the Debian packages that tests and labs need (root)
	./integration/setup.sh

.PHONY: demo
demo: setup build ## Bring a small lab up, plan and apply on it, and leave it for a look
	go run ./integration/lab demo

.PHONY: lab-up
lab-up: setup ## Start the lab: virtual machines and a control plane
	go run ./integration/lab up

.PHONY: lab-down
lab-down: ## Stop the lab
	go run ./integration/lab down

.PHONY: generate
generate: ## Compile the BPF objects again (needs clang)
	go generate ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters, with the layer rules
	$(GOLANGCI_LINT) run ./...

$(GOLANGCI_LINT):
	GOBIN=$(CACHE)/tools GOFLAGS=-mod=mod go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.9.0

.PHONY: bench
bench: ## Benchmarks, beside what one would use instead (most of an hour)
	./integration/setup.sh pdsh clustershell pssh
	go test -run '^$$' -bench . -benchmem -timeout 60m ./...
	FLEETD_BENCH=1 go test -timeout 90m -run 'TestScale$$|TestFlatCost' -v ./inventory

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME each
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

.PHONY: clean
clean: ## Remove what was built here (the lab's cache stays in $(CACHE))
	rm -rf bin dist
