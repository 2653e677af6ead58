# Training and publishing: torch, transformers, onnx. From the repository's root:
#   docker build -f docker/training.Dockerfile -t mora-train .
# PyPI's torch includes CUDA, several gigabytes. PIP_OPTIONS can name an index with the CPU build:
#   docker build -f docker/training.Dockerfile -t mora-train --build-arg PIP_OPTIONS='--index-url ...' .
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS base
RUN command -v python3 >/dev/null && python3 -c 'import ensurepip' || { \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    }

FROM base AS build
ARG PIP_OPTIONS=
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
# Install the dependencies first, for an empty project, so that a change to the code does not download them again.
RUN mkdir model_store service training \
    && touch model_store/__init__.py service/__init__.py training/__init__.py \
    && python3 -m venv /opt/mora \
    && /opt/mora/bin/pip install --no-cache-dir ${PIP_OPTIONS} -c constraints.txt '.[cpu,openvino,train]'
COPY model_store model_store
COPY service service
COPY training training
RUN rm -rf build *.egg-info model_store/blobs model_store/tasks && /opt/mora/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mora-train" \
      org.opencontainers.image.description="Trains and publishes tasks for mora-serve" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/mora /opt/mora
RUN install -d -o 10001 -g 10001 /store /runs /home/mora
ENV PATH=/opt/mora/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/mora \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
WORKDIR /runs
ENTRYPOINT ["mora-train"]
CMD ["--help"]
