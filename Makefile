# catdog: every task, for people and for CI. `make` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
# A bare machine's python3 is the one that has torch.
GPU_PYTHON ?= $(if $(wildcard .venv/.installed),.venv/bin/python,python3)
BIN := $(VENV)/bin
CATDOG := $(BIN)/catdog
ARCHIVE := model-store/catdog.mar

# What `make run` and `make classify` classify.
DIR ?= scripts/catdog_serving/samples
# What `make package` packs; WEIGHTS may be an id, the path of a .pth file, or "seeded".
NETWORK ?= resnet152
WEIGHTS ?=
# What `make install` installs in addition: optional-dependencies of pyproject.toml, as in EXTRAS=ray,dev
EXTRAS ?=
# cpu or cuda; auto: what .venv has, else PyTorch's CPU wheels where there is no NVIDIA GPU.
TORCH ?= auto
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# A path that a user gave, whatever is in its name: ~/ at its begin is the home, and a word for the shell.
define newline


endef
expanded = $(subst $(newline),,$(subst $(newline)~/,$(HOME)/,$(newline)$(1)))
quoted = '$(subst ','\'',$(expanded))'

# Another config.properties, as in CONFIG=~/production.properties
CONFIG ?=
ifneq ($(CONFIG),)
export CATDOG_CONFIG := $(if $(filter /% ~/%,$(firstword $(CONFIG))),,$(CURDIR)/)$(call expanded,$(CONFIG))
endif

comma := ,
RUN_EXTRAS := serve,embedded
ALL_EXTRAS := $(RUN_EXTRAS),report,heic,web,ray,dev
INSTALL := $(BIN)/python tools/install.py --torch $(TORCH) --torch-index $(TORCH_INDEX)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install install-dev programs run serve stop status classify package wheel check test test-all unit integration integration-bundled stress soak image-test bench gpu-check requirements sbom bench-document lint format clean

help: ## list the targets
	@echo "catdog: cats from dogs, on TorchServe"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' \
		| while IFS='	' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed ## create .venv with the exact versions of requirements.lock; EXTRAS=web,ray, TORCH=cuda
	@$(if $(EXTRAS)$(filter-out auto,$(TORCH)),$(INSTALL) $(RUN_EXTRAS)$(addprefix $(comma),$(EXTRAS)))

install-dev: $(VENV)/.installed-dev

run: $(if $(CONFIG),| $(VENV)/.installed,$(ARCHIVE)) ## do everything: install, package, serve, classify the samples (or DIR=...)
	@$(CATDOG) serve
	@echo
	@$(CATDOG) classify $(call quoted,$(DIR)) || test $$? -eq 1  # some images failed, and their rows say why
	@echo
	@echo "The server stays up until: make stop"

serve: $(if $(CONFIG),| $(VENV)/.installed,$(ARCHIVE)) ## start the server and wait until it is ready
	@$(CATDOG) serve

stop: | $(VENV)/.installed ## stop the server
	@$(CATDOG) stop

status: | $(VENV)/.installed ## show models, workers and queue
	@$(CATDOG) status

classify: | $(VENV)/.installed ## classify DIR=... with the running server
	@$(CATDOG) classify $(call quoted,$(DIR)) || test $$? -eq 1

package: | $(VENV)/.installed ## build the archive: NETWORK=..., WEIGHTS=...
	@$(CATDOG) package --network $(NETWORK) $(if $(WEIGHTS),--weights $(call quoted,$(WEIGHTS)))

wheel: | $(VENV)/.installed ## build dist/catdog_serving-...whl, which needs no checkout
	@rm -f dist/catdog_serving-*.whl
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/catdog_serving-*.whl

check: lint unit ## what one runs while writing: style, types, unit tests

test: unit integration ## unit tests, and integration tests against a real TorchServe

test-all: test integration-bundled stress ## these, and what takes long or hurts: hostile inputs, kills, full queues

# One thread a process: the processes already are as many as the cores.
unit: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto tests/unit

integration: $(VENV)/.installed-dev programs
	@$(BIN)/pytest -n 2 --dist loadgroup tests/integration

# On the Java libraries that TorchServe brings; `integration` has Debian's, where they are installed.
integration-bundled: $(VENV)/.installed-dev programs
	@CATDOG_TEST_JAVA_LIBRARIES=bundled $(BIN)/pytest -n 2 --dist loadgroup tests/integration

stress: $(VENV)/.installed-dev programs
	@$(BIN)/pytest -s tests/stress

# With KILLS: so many SIGKILLs of each command instead, at moments that CATDOG_KILLS_SEED gives.
soak: $(VENV)/.installed-dev ## half an hour of steady load; KILLS=60: 60 kills a file command, 40 a server command
	@$(if $(KILLS),CATDOG_KILLS=$(KILLS)) $(BIN)/pytest -s $(if $(KILLS),tests/stress/test_kills_*.py,tests/soak)

# The image in real containers, as root and on Debian: base, build and runs take minutes, and 10 GB meanwhile.
# BUILD_ARGS are more arguments of the build, as in BUILD_ARGS="NETWORK=resnet152 WEIGHTS=seeded".
BUILD_ARGS ?=
IMAGE_PROGRAMS := buildah podman runc mmdebstrap
# Debian's podman-compose does not know `network_mode: service:NAME`.
COMPOSE := .cache/podman-compose/bin
image-test: $(VENV)/.installed-dev programs ## build the image, and run it with the documented options (needs root)
	@for program in $(IMAGE_PROGRAMS); do command -v $$program >/dev/null || missing=1; done; \
	test -z "$$missing" || { echo "installing $(IMAGE_PROGRAMS) ..."; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(IMAGE_PROGRAMS) >/dev/null; }
	@test -x $(COMPOSE)/podman-compose || { $(PYTHON) -m venv $(dir $(COMPOSE)) && $(COMPOSE)/pip install --quiet podman-compose==1.6.0; }
	@PATH="$(CURDIR)/$(COMPOSE):$$PATH" TORCH_INDEX="$(TORCH_INDEX)" CATDOG_TEST_BUILD_ARGS="$(BUILD_ARGS)" $(BIN)/pytest tests/image

# Debian's programs that the tests start, and jars; a test without its own is skipped with the reason.
PROGRAMS := chromium nginx openssl curl prometheus promtool nft
JARS := netty-codec-http log4j-core
PACKAGES := chromium nginx openssl curl prometheus nftables libnetty-java liblog4j2-java
programs:
	@for program in $(PROGRAMS); do PATH="$$PATH:/usr/sbin" command -v $$program >/dev/null || missing=1; done; \
	for jar in $(JARS); do test -e /usr/share/java/$$jar.jar || missing=1; done; \
	test -z "$$missing" || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
	echo "installing $(PACKAGES) for the tests ..."; \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(PACKAGES) >/dev/null; }

bench: | $(VENV)/.installed-report ## measure this machine (half an hour; PICTURES=...), and put the figures into the docs
	@$(CATDOG) bench --output docs/performance/bench.json $(if $(PICTURES),--pictures $(call quoted,$(PICTURES)))
	@$(MAKE) --no-print-directory bench-document

# On a bare machine with CUDA and torch: WHEELS is a folder of what else it lacks, Java included.
PARTS ?= right,bench,served
DEVICE ?= cuda:0
WHEELS ?=
PHOTOS ?=
OUTPUT ?= gpu-check
gpu-check: ## check and measure a GPU, without network; PARTS=..., WHEELS=..., PHOTOS=..., OUTPUT=...
	@$(GPU_PYTHON) tools/gpu_check.py --parts $(PARTS) --device $(DEVICE) --output $(call quoted,$(OUTPUT)) $(if $(SMALL),--small) \
		$(if $(WHEELS),--wheels $(call quoted,$(WHEELS))) $(if $(PHOTOS),--photos $(call quoted,$(PHOTOS)))

# After a change of requirements.lock or pyproject.toml. uv is in a folder of its own: .venv has no use for it.
UV := .cache/uv/bin/uv
requirements: ## write requirements/, with hashes, from requirements.lock: what the image installs
	@test -x $(UV) || { $(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv==0.13.9; }
	@$(PYTHON) tools/hashed_requirements.py $(UV) $(TORCH_INDEX)

# What lists and asks has many dependencies of its own, so it is not in .venv.
SBOM ?= catdog.cdx.json
SBOM_TOOLS := .cache/sbom-tools
sbom: $(VENV)/.installed ## list every component (CycloneDX, SBOM=...), and ask pip-audit for known advisories
	@test -x $(SBOM_TOOLS)/bin/pip-audit || { $(PYTHON) -m venv $(SBOM_TOOLS) && \
		$(SBOM_TOOLS)/bin/pip install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1; }
	@$(BIN)/python -m tools.sbom $(call quoted,$(SBOM)) $(SBOM_TOOLS)/bin

bench-document: | $(VENV)/.installed
	@$(BIN)/python -m tools.bench_document docs/performance/bench.json README.md docs/performance.md docs/scale-and-deploy.md

lint: $(VENV)/.installed-dev ## check style, types and imports
	@$(BIN)/ruff check handler scripts tests tools
	@$(BIN)/ruff format --check handler scripts tests tools
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.installed-dev ## reformat the code
	@$(BIN)/ruff check --fix handler scripts tests tools
	@$(BIN)/ruff format handler scripts tests tools

clean: ## stop the server, delete .venv, the archives and all caches
	@test ! -x $(CATDOG) || $(CATDOG) stop
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis model-store/*.mar logs
	find handler scripts tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

# Before it was catdog-serving, the distribution was `catdog`; a .venv of that time must not keep both.
$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	@$(BIN)/pip uninstall -qq --yes catdog
	@$(INSTALL) $(RUN_EXTRAS)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) $(ALL_EXTRAS)
	@touch $@

# What one target needs besides: an extra by its name.
$(VENV)/.installed-%: $(VENV)/.installed
	@$(INSTALL) $*
	@touch $@

# Exit code 3 of `catdog package` says that the weights cannot be had on this machine.
$(ARCHIVE): | $(VENV)/.installed
	@$(CATDOG) package || { code=$$?; test $$code -eq 3 || exit $$code; \
	echo; \
	echo "NOTICE: ResNet-152 cannot be packed on this machine (the reason is above)."; \
	echo "  Going on with efficientnet_lite0, a small network that was installed with catdog."; \
	echo "  For ResNet-152, bring resnet152-394f9c45.pth here and run:"; \
	echo "    make package WEIGHTS=path/to/resnet152-394f9c45.pth && make stop run"; \
	echo; \
	$(CATDOG) package --network efficientnet_lite0; }
