# Training of adapters in a pod with GPUs: the platform beside PyTorch, whose wheel brings CUDA's libraries.
# Built by `make image IMAGE=finetuning` from the same folder as the platform's, with requirements-finetuning.txt.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG TORCH=torch==2.13.0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/llm-platform
COPY requirements-finetuning.txt /build/
RUN /opt/llm-platform/bin/python -m pip install --quiet --no-compile --no-deps --require-hashes -r /build/requirements-finetuning.txt
# hadolint ignore=DL3059
RUN /opt/llm-platform/bin/python -m pip install --quiet --no-compile "${TORCH}"
COPY *.whl /build/
# PyTorch brings its own tests, in syntax of later Pythons, too.
RUN /opt/llm-platform/bin/python -m pip install --quiet --no-compile --no-deps /build/*.whl \
    && /opt/llm-platform/bin/python -m pip uninstall --quiet --yes pip \
    && python3 -m compileall -q -j 0 -x /torch/testing/ --invalidation-mode unchecked-hash /opt/llm-platform/lib
# What is missing is missed here, and not when a GPU waits for it.
WORKDIR /tmp
RUN LLM_PLATFORM_STATE=/tmp/state /opt/llm-platform/bin/python -c "import llm_platform.finetuning.train, torch, peft, transformers, dagster_pipes"

# hadolint ignore=DL3006
FROM ${BASE}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="llm-platform-finetuning" org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/llm-platform /opt/llm-platform
RUN groupadd --gid 10001 platform && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin platform \
    && mkdir /state && chown 10001:10001 /state
# Which GPUs a container sees is said by who starts it: an image that asks for all gets them in a pod that has asked for none.
ENV PATH=/opt/llm-platform/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LLM_PLATFORM_STATE=/state LLM_PLATFORM_SAMPLES=false LLM_PLATFORM_GIT_COMMIT=${COMMIT} \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /tmp
HEALTHCHECK NONE
