# The platform: code location, webserver, daemon, runs, review page. Built by `make image` from a folder that holds
# requirements.txt (the lock file without what only a laptop needs) and the wheel of this checkout, and nothing else.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# hadolint ignore=DL3006
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/llm-platform
COPY requirements.txt /build/
RUN /opt/llm-platform/bin/python -m pip install --quiet --no-compile --no-deps --require-hashes -r /build/requirements.txt
COPY *.whl /build/
# Nobody installs anything into a running container, so pip goes, too.
RUN /opt/llm-platform/bin/python -m pip install --quiet --no-compile --no-deps /build/*.whl \
    && /opt/llm-platform/bin/python -m pip uninstall --quiet --yes pip setuptools
COPY trim.sh /build/
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends binutils > /dev/null && rm -rf /var/lib/apt/lists/* \
    && sh /build/trim.sh "$(echo /opt/llm-platform/lib/python3*/site-packages)"
# By hash and unchecked: the file system is read-only, so no source can be newer. An import of the definitions costs
# 3.3 s of processor time without byte code, 1.3 s with it.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/llm-platform/lib
# What was taken away is missed here, and not in a cluster.
WORKDIR /tmp
RUN LLM_PLATFORM_STATE=/tmp/state KUBERNETES_SERVICE_HOST=none /opt/llm-platform/bin/python -c \
    "import llm_platform.definitions, llm_platform.cli.main, dagster_webserver.app, dagster_k8s.launcher, scipy.stats, sklearn.linear_model, pyarrow.parquet, pyarrow.dataset, pyarrow.fs; from llm_platform.warehouse.engine import verified_extension; [verified_extension(name) for name in ('ducklake', 'postgres_scanner', 'httpfs', 'aws')]"

# hadolint ignore=DL3006
FROM ${BASE}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="llm-platform" org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /opt/llm-platform /opt/llm-platform
# What a container writes is on volumes: /state, or nothing where tables are in an object store, and /tmp.
RUN groupadd --gid 10001 platform && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin platform \
    && mkdir /state /applications && chown 10001:10001 /state
ENV PATH=/opt/llm-platform/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LLM_PLATFORM_STATE=/state LLM_PLATFORM_APPLICATIONS=/applications LLM_PLATFORM_SAMPLES=false LLM_PLATFORM_GIT_COMMIT=${COMMIT}
USER 10001:10001
WORKDIR /tmp
EXPOSE 4000
# Of the default command; the chart gives each pod the probes of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 4000), 3).close()"]
ENTRYPOINT ["llm-platform", "exec"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "llm_platform.definitions", "--location-name", "llm_platform"]
