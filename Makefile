# Targets a person types. Everything is installed into .venv from the lock files, by pip, with hashes.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TORCH ?= torch==2.13.0
# Compiling all that is installed takes a minute more, so what every command imports is compiled afterwards. Python would do
# so at the first import, but not where PYTHONDONTWRITEBYTECODE is set, as in many containers: there each process compiled
# 1,300 modules again, half of the processor time of `llm-platform plan`.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

COMPILED := import llm_platform.workbench.runs, llm_platform.cli.main, dagster._cli, dagster_webserver.app, openai, \
  pandas, sklearn.linear_model, sklearn.feature_extraction.text, scipy.stats, starlette.applications, uvicorn, \
  dagster._core.storage.base_storage, dagster._core.storage.sqlite_storage, upath.implementations.local, \
  sqlalchemy.dialects.sqlite, alembic.context, pyarrow.pandas_compat, pyarrow.dataset, rich.spinner, rich._emoji_codes, \
  dagster._core.execution.execute_in_process, dagster._core.execution.plan.active, dagster._core.instance.factory, \
  dagster._core.instance.runs.run_domain
COMPILED_FINETUNE := import llm_platform.finetuning.base, torch, transformers, peft

.DEFAULT_GOAL := help
.PHONY: help install install-finetune install-dev demo demo-finetune dev test test-all test-store tools coverage mutants chaos soak check format lock \
  bench dist clean chart image test-chart test-cluster ci-branch ci-models ci-evidence

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/bin/python:
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 14), sys.version' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing into .venv (about a minute the first time)"
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "$(COMPILED)"
	@touch $@

# torch comes by plain pip, with what it needs: which build fits (processor only, or which CUDA) is a matter of the
# machine and of pip's settings, so it cannot stand in a lock file with hashes.
.venv/.installed-finetune: requirements-finetune.lock .venv/.installed
	@echo "Installing what fine-tuning needs (PyTorch is large where pip takes the CUDA build)"
	@$(PIP) --no-deps --require-hashes -r requirements-finetune.lock
	@$(PIP) $(TORCH)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "$(COMPILED_FINETUNE)"
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed-finetune
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

install: .venv/.installed ## Install what the platform needs into .venv

install-finetune: .venv/.installed-finetune ## Install what training adapters needs, too

install-dev: .venv/.installed-dev ## Install what its tests need, too

demo: .venv/.installed ## Real documents through a real model to a published table (N=400 documents)
	@$(BIN)/llm-platform demo $(if $(N),--documents $(N))

demo-finetune: .venv/.installed-finetune ## The same with an adapter that is trained here, judged, and published if it is better
	@$(BIN)/llm-platform demo --finetune $(if $(N),--documents $(N))

dev: .venv/.installed ## Open Dagster's UI on the state that the demo made (http://127.0.0.1:3000)
	@$(BIN)/llm-platform dev

test: .venv/.installed-dev ## Run every check, and the tests but those marked slow
	@.ci/test

tools: ## What test-all needs beside Python: Chromium, promtool, etcd, kube-apiserver (Debian or Ubuntu, as root)
	@bash .ci/tools

test-all: check ## Every check and test, also slow ones and those that need the tools above; says which are missing
	@bash .ci/test-all

coverage: .venv/.installed-dev ## Which lines the tests run, command line and workers included; fails under the floor of pyproject.toml
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q -n 2 --dist loadgroup
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

# What moto leaves to the garbage collector is none of our faults.
test-store: .venv/.installed-dev ## The tests of the lake once more, where production has it: Postgres and an object store
	@LLM_PLATFORM_TEST_STORE=postgres+s3 $(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not benchmark" \
	  -W ignore::pytest.PytestUnraisableExceptionWarning llm_platform_tests/warehouse

mutants: .venv/.installed-dev ## Faults that the tests have to see; one that survives is a line that no test decides about
	@$(BIN)/python -m llm_platform_tests.mutants

test-chart: .venv/.installed-dev ## Render the chart's profiles and check what is in them: schemas, connections, bad values (about a minute)
	@$(BIN)/python -m pytest -q -n 2 -m "not benchmark" llm_platform_tests/deployments/chart

test-cluster: .venv/.installed-dev ## Install the chart on a real cluster and break things there (CLUSTER=folder with its binaries; as root)
	@CLUSTER="$(CLUSTER)" $(BIN)/python -m llm_platform_tests.deployments.cluster

chart: .venv/.installed-dev ## Package the chart (OUTPUT=folder); REFERENCE=oci://… pushes it to a registry as well
	@$(BIN)/python deploy/helm/package.py "$(or $(OUTPUT),dist)" $(REFERENCE)

image: .venv/.installed ## Build an image with docker, podman or buildah; print digest and size (IMAGE=platform or finetuning)
	@PYTHON=$(BIN)/python deploy/images/build.sh $(or $(IMAGE),platform) $(REFERENCE)

ci-branch: .venv/.installed ## What a change would do, judged on a branch of production (NAME=branch OUTPUT=folder)
	@LLM_PLATFORM=$${LLM_PLATFORM:-$(BIN)/llm-platform} .ci/branch-evaluation "$(NAME)" "$(or $(OUTPUT),evaluation)"

ci-models: .venv/.installed ## Lock every model at what its endpoint says now, and say what has changed
	@.ci/models

ci-evidence: ## Sign an image and its bills of materials by key, and verify them (IMAGE_ARCHIVE=… COSIGN_KEY=… OUTPUT=folder)
	@PYTHON=$(BIN)/python .ci/evidence "$(IMAGE_ARCHIVE)" "$(or $(OUTPUT),evidence)"

chaos: .venv/.installed-dev ## Kill runs at 50 random moments and read what is left (CHAOS_KILLS=n, CHAOS_SEED=... repeats one)
	@$(BIN)/python -m pytest -q -n 0 -m chaos llm_platform_tests/survival

soak: .venv/.installed-dev ## Tables, prompts and rollouts that change while everything dies (SOAK_MINUTES=n, SOAK_SEED=... repeats one)
	@$(BIN)/python -m pytest -q -n 0 -m soak llm_platform_tests/survival

check: .venv/.installed-dev ## Format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --no-error-summary --num-workers $(or $(WORKERS),2)
	@$(BIN)/lint-imports --no-cache

format: .venv/.installed-dev ## Rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/.installed-dev ## Measure ratios and limits (llm_platform_tests/benchmarks)
	@$(BIN)/python -m pytest -q -m benchmark llm_platform_tests/benchmarks

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-header pyproject.toml --extra local --extra files
# Of torch's own requirements the lock keeps those that every build has.
NOT_TORCH := $(foreach name,torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
  nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
  nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx,--no-emit-package $(name))

lock: ## Resolve requirements*.lock anew (needs uv)
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --extra finetune $(NOT_TORCH) --constraint requirements.lock --output-file requirements-finetune.lock
	@$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

dist: .venv/.installed-dev ## Build wheel and source distribution into dist/
	@rm -rf build dist
	@$(BIN)/python -c "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')" > /dev/null
	@rm -rf build
	@ls dist

clean: ## Remove .venv and caches; the state stays (see: llm-platform state reset)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist *.egg-info
