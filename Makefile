# SPDX-License-Identifier: Apache-2.0
# `make` prints what there is to make. CI runs `make check`. V=1 shows the commands.
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

Q := $(if $(V),,@)
BIN := .venv/bin
C_SOURCES := $(wildcard bpf/*.[ch] bpf/bcc/*.h bench/*.[ch] tests/*/*.[ch])
SCRIPTS := quickstart.sh .ci/run tests/e2e/bare_debian.sh deploy/debian/build \
	deploy/debian/netatop-exporter.prerm deploy/debian/netatop-exporter.postrm tests/deploy/service/boot
GENERATED := exporter/kernel/layouts.py bpf/fingerprint.h

help: ## Print this
	$(Q)awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bpf: ## Build the kernel programs
	$(Q)$(MAKE) -C bpf

layouts: ## Write the Python side of the structs shared with the kernel programs anew
	$(Q)$(MAKE) -C bpf layouts

schema: ## Write the JSON schema of the configuration file anew
	$(Q)$(BIN)/netatop-exporter check-config --schema > deploy/netatop-exporter.schema.json

dashboards: ## Write the JSON of the Grafana dashboards anew
	$(Q)$(BIN)/python -W ignore::DeprecationWarning -m grafana

deb: ## Build the Debian package, into dist/
	$(Q)deploy/debian/build

man: ## Write the manual pages, into .output/man
	$(Q)mkdir -p .output/man
	$(Q)$(BIN)/python deploy/man/pages.py .output/man

rules: ## Write the Prometheus operator's rules anew, from deploy/prometheus
	$(Q)$(BIN)/python -m tests.deploy.operator_rules

tables: ## Write the tables of metrics and flags in docs/ anew
	$(Q)$(BIN)/python -m tests.tables

lint: ## Look at everything without running it
	$(Q)$(BIN)/ruff check --quiet .
	$(Q)$(BIN)/ruff format --check --quiet .
	$(Q)$(BIN)/mypy
	$(Q)$(BIN)/lint-imports --no-logo
	$(Q)$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)
	$(Q)$(BIN)/codespell
	$(Q)$(BIN)/shellcheck $(SCRIPTS)
	$(Q)$(MAKE) -C bpf headers
	$(Q)before=$$(cat $(GENERATED)); $(MAKE) layouts || exit; \
		[ "$$before" = "$$(cat $(GENERATED))" ] || \
		{ echo "stale, written anew: $(GENERATED); commit them" >&2; exit 1; }

format: ## Let the formatters have their way
	$(Q)$(BIN)/ruff check --fix --exit-zero --quiet .
	$(Q)$(BIN)/ruff format --quiet .
	$(Q)$(BIN)/clang-format -i $(C_SOURCES)

test: ## Test what needs neither root nor a kernel
	$(Q)$(BIN)/pytest tests/unit

test-kernel: bpf ## Test the programs in the running kernel (root)
	$(Q)$(BIN)/pytest tests/kernel

test-e2e: bpf ## Test the installed program from outside (root)
	$(Q)$(BIN)/pytest tests/e2e

# What attaches nothing to this host's kernel runs beside what does, and takes what that leaves.
# Containers and services come and go all over the host: they come last.
BESIDE := tests/unit tests/kernels
LOG := .output/beside.log

check: lint bpf ## All of lint and tests: what CI runs (root)
	$(Q)mkdir -p $(dir $(LOG))
	$(Q)nice -n 19 $(BIN)/pytest $(BESIDE) > $(LOG) 2>&1 & beside=$$!; \
		$(BIN)/pytest tests/kernel tests/e2e; here=$$?; \
		$(BIN)/pytest tests/deploy; last=$$?; \
		wait $$beside; beside=$$?; cat $(LOG); exit $$((here | last | beside))

kernels: bpf ## Run the suites on other kernels, in virtual machines (root, network, half an hour)
	$(Q)$(BIN)/python -m tests.kernels

bare-debian: ## Try quickstart.sh in a bare Debian (root, network, some minutes)
	$(Q)tests/e2e/bare_debian.sh

pictures: bpf ## Take the pictures of the documentation in Chromium (root, two minutes)
	$(Q)NETATOP_PICTURES=$(CURDIR)/docs/images $(BIN)/pytest -q tests/e2e/test_page.py -k pictures

bench: bpf ## Measure what a packet and a scrape cost (root)
	$(Q)for file in $(filter-out bench/common.py,$(wildcard bench/*.py)); do \
		$(BIN)/python $$file || exit; \
	done

clean: ## Remove what was built; .venv stays
	$(Q)$(MAKE) -C bpf clean
	$(Q)rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help bpf layouts schema dashboards rules tables pictures deb man lint format test test-kernel test-e2e check kernels bare-debian bench clean
