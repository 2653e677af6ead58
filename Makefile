# Targets install what they need into .venv, once: again only after pyproject.toml or constraints.txt changed.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
SBOM_OF ?= $(BIN)/python
FAULTS ?= tests/faults
SMALL_DATA ?= build/small_data
COVERAGE ?= build/coverage
export PYTHONDONTWRITEBYTECODE :=# tests start hundreds of processes: each would compile the modules again

# gpu where Linux on x86-64 has an NVIDIA driver; `make setup ACCELERATOR=gpu` (or cpu) decides otherwise.
ACCELERATOR ?= $(shell test "$$(uname -sm)" = "Linux x86_64" \
	&& { test -e /proc/driver/nvidia/version || command -v nvidia-smi; } >/dev/null 2>&1 && echo gpu || echo cpu)
ifeq ($(filter $(ACCELERATOR),cpu gpu),)
$(error ACCELERATOR is cpu or gpu, not "$(ACCELERATOR)")
endif
OTHER_ACCELERATOR := $(if $(filter gpu,$(ACCELERATOR)),cpu,gpu)
RUNTIMES = $(if $(filter gpu,$(ACCELERATOR)),gpu,cpu$(comma)openvino)
OTHER_RUNTIME := $(if $(filter gpu,$(ACCELERATOR)),onnxruntime,onnxruntime_gpu)

SERVING := $(VENV)/.installed-serving-$(ACCELERATOR)
EVERYTHING := $(VENV)/.installed-everything-$(ACCELERATOR)
BENCH := $(VENV)/.installed-bench-$(ACCELERATOR)
TRUST := $(VENV)/.installed-trust-$(ACCELERATOR)
FUZZ := $(VENV)/.installed-fuzz-$(ACCELERATOR)
RAY := $(VENV)/.installed-ray-$(ACCELERATOR)

.PHONY: help setup setup-browser setup-registry demo test slow-test faults docker-test ray-test client-test serve check docs docs-serve bench gpu-check trust coverage screenshots lock rules sbom release

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  (ACCELERATOR=$(ACCELERATOR), PORT=$(PORT); set either on the command line)"

setup: $(EVERYTHING) ## Install serving, training and tests into .venv

setup-browser: $(EVERYTHING) ## Install Chromium (Debian, Ubuntu; as root), which the tests of the playground drive
	command -v chromium >/dev/null || { apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core; }

setup-registry: ## Install docker-registry (Debian, Ubuntu; as root), to which the tests of transfer push
	command -v docker-registry >/dev/null || { apt-get update && apt-get install -y --no-install-recommends docker-registry; }

demo: $(SERVING) ## Serve the shipped store, classify image only, text only and both, print the answers, stop
	$(BIN)/python examples/demo.py

test: $(EVERYTHING) build/clients/s3 ## Run the tests but slow ones and planted faults; with ALL=1 slow ones, too
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(if $(ALL),--numprocesses 3 --slow,--numprocesses 4)

slow-test: $(EVERYTHING) build/clients/s3 ## Run the tests that `make test` leaves out for their time, without tests/faults
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 3 --full-faults -m "slow or full_only" --ignore tests/faults

faults: $(FUZZ) ## Run every fault test, planted faults too, with full counts; writes docs/reliability.md; over two hours
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(FAULTS) --full-faults

docker-test: $(EVERYTHING) ## Build the images, run the compose file on the local Docker engine and test what it does
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/deploy/docker --docker -v

ray-test: $(RAY) ## Kill a node, upgrade and refuse a store in a Ray cluster of two nodes; some minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/deploy/ray -rA

client-test: $(EVERYTHING) build/clients/generator build/clients/mlserver build/clients/single-file build/clients/openai ## Test with a generated client, MLServer's types and Node.js
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/service/api/test_openapi.py tests/service/web/test_open_inference.py \
		tests/examples/test_single_file.py tests/examples/test_openai.py

# The pins of these packages differ from ours.
build/clients/%: tests/support/clients/%.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $@
	$@/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

build/clients/single-file: examples/single_file/package.json
build/clients/openai: examples/openai/package.json
build/clients/single-file build/clients/openai:
	@command -v npm >/dev/null || { echo "error: npm is not installed (on Debian: apt install npm)" >&2; exit 1; }
	@mkdir -p $@ && cp $< $@
	npm install --prefix $@ --ignore-scripts --no-audit --no-fund
	@touch $@

serve: $(SERVING) ## Serve the shipped store on PORT until interrupted
	$(BIN)/mora-serve run --port $(PORT)

check: $(EVERYTHING) ## Lint, check formatting, types and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(EVERYTHING) ## Build the documentation as a site into build/docs; a dead link stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "build/docs/index.html"

docs-serve: $(EVERYTHING) ## Show the documentation on port 8001 and build it again as its files change
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8001

bench: $(BENCH) ## Measure against PyTorch behind FastAPI, LitServe and the bare runtime; about 35 minutes on 2 cores
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.run

# A machine without a package index has no .venv; python3 then needs the packages of the extras gpu, train and bench.
gpu-check: ## Check training and serving on the NVIDIA GPU of this machine; about 6 minutes (GPU_CHECK=--dry-run: on the CPU)
	$(if $(wildcard $(BIN)/python),$(BIN)/python,python3) -m benchmarks.gpu.check $(GPU_CHECK)

trust: $(TRUST) ## Fit ten small data sets beside logistic regression; writes docs/method.md; over an hour on 2 cores
	HF_HUB_OFFLINE=1 $(BIN)/python -m examples.small_data.trust $(SMALL_DATA)

# The drawings of openclipart are prepared before (examples/openclipart/README.md).
coverage: $(TRUST) ## Fit three tasks with three seeds and study their label sets; writes docs/coverage.md; some hours on 2 cores
	test -f $(SMALL_DATA)/starships-385.yaml || $(BIN)/python -m examples.small_data.prepare $(SMALL_DATA)
	set -e; for seed in 0 1 2; do for whole in '' -whole; do \
		fit() { HF_HUB_OFFLINE=1 $(BIN)/mora-train fit $$1 --output $(COVERAGE)/$$2-$$seed$$whole --train.seed $$seed $${whole:+--coverage.share 0} $$3; }; \
		fit examples/openclipart/category.yaml category; \
		fit examples/openclipart/keywords.yaml keywords; \
		fit $(SMALL_DATA)/starships-385.yaml starships "--data.validation_share 0.4 --data.test_share 0.3"; \
	done; done
	$(BIN)/python -m benchmarks.coverage $(COVERAGE)/*-0 $$(printf -- '--more %s ' $(COVERAGE)/*-[12]) \
		$$(printf -- '--whole %s ' $(COVERAGE)/*-whole) --page docs/coverage.md

screenshots: $(EVERYTHING) ## Write the pictures of docs/playground.md, with Chromium
	$(BIN)/python -m examples.screenshots docs/images

lock: $(EVERYTHING) ## Write docker/requirements-cpu.txt, -gpu.txt and -build.txt: what an image is made of, with hashes
	$(call write_lock,cpu,pyproject.toml --extra cpu --extra openvino --extra otel)
	@sed -Ei "s/^(ml-dtypes|onnx|onnxruntime-ep-openvino)==[^ ]*/& ; platform_machine == 'x86_64'/" docker/requirements-cpu.txt  # only there
	$(call write_lock,gpu,pyproject.toml --extra gpu --extra otel)
	@printf 'cyclonedx-bom\nhatchling\n' | $(call write_lock,build,-)

rules: ## Write docker/kubernetes/rules.yaml, the rules of docker/prometheus/rules for the Prometheus operator
	@{ printf '%s\n' '# The rules of docker/prometheus/rules for the Prometheus operator. `make rules` writes this file.' \
		'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata:' '  name: mora-serve' 'spec:' '  groups:'; \
		for file in docker/prometheus/rules/*.yml; do sed '1,/^groups:/d; s/^./  &/' $$file; done; \
	} > docker/kubernetes/rules.yaml

sbom: $(EVERYTHING) ## Write build/sbom.json: what an environment has, as CycloneDX (SBOM_OF=its Python, by default .venv's)
	@mkdir -p build
	$(BIN)/cyclonedx-py environment $(SBOM_OF) --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json

release: $(EVERYTHING) ## Write build/release: wheel, sdist, SBOM, and what was built from which commit, signed (KEY=, IMAGE=)
	$(if $(KEY),,$(error KEY=FILE names the private key that signs; `mora-store keygen FILE` makes one))
	$(BIN)/python docker/release.py build --key $(KEY) $(if $(IMAGE),--image $(IMAGE))

$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "making $(VENV) with $$($$python -V)"; exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "error: found no Python >= 3.11 with venv (on Debian: apt install python3 python3-venv)" >&2; exit 1

$(SERVING): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES))

$(EVERYTHING): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES)$(comma)train$(comma)dev)
	@touch $(SERVING)

$(BENCH): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES)$(comma)train$(comma)dev$(comma)bench)
	@touch $(SERVING) $(EVERYTHING)

$(TRUST): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES)$(comma)train$(comma)dev$(comma)trust)
	@touch $(SERVING) $(EVERYTHING)

$(FUZZ): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES)$(comma)train$(comma)dev$(comma)fuzz)
	@touch $(SERVING) $(EVERYTHING)

$(RAY): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(RUNTIMES)$(comma)train$(comma)dev$(comma)ray)
	@touch $(SERVING) $(EVERYTHING)

# $(1): whose lock, $(2): what it is made from.
write_lock = $(BIN)/uv pip compile $(2) --constraint constraints.txt --upgrade --python-version 3.11 \
	--python-platform linux --only-binary :all: --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make lock" --output-file docker/requirements-$(1).txt >/dev/null

comma := ,
# Both runtimes own the module onnxruntime: where the other one is, both go before the wanted one comes.
define install
	@rm -f $(VENV)/.installed-*-$(OTHER_ACCELERATOR)
	@if ls -d $(VENV)/lib/python*/site-packages/$(OTHER_RUNTIME)-*.dist-info >/dev/null 2>&1; then \
		$(BIN)/pip uninstall --yes onnxruntime onnxruntime-gpu; \
	fi
	@echo "installing .[$(1)] into $(VENV); this may take some minutes"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(1)]' --constraint constraints.txt
	@touch $@
endef
