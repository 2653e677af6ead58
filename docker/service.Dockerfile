# The service: ONNX Runtime and the shipped store, without torch or a compiler. From the repository's root:
#   docker build -f docker/service.Dockerfile -t mora-serve .
#   docker build -f docker/service.Dockerfile -t mora-serve:gpu --build-arg ACCELERATOR=gpu \
#       --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04@sha256:... .      # the digest is in docker-compose.yml
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS base
RUN command -v python3 >/dev/null && python3 -c 'import ensurepip' || { \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    }

FROM base AS build
ARG ACCELERATOR=cpu
WORKDIR /build
COPY docker/requirements-${ACCELERATOR}.txt docker/requirements-build.txt ./
RUN python3 -m venv /opt/mora && /opt/mora/bin/pip install --no-cache-dir --require-hashes --no-deps \
        -r requirements-${ACCELERATOR}.txt
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps \
        -r requirements-build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY service service
COPY model_store model_store
COPY training/__init__.py training/
# The models go into /store below, not into the wheel.
RUN rm -r model_store/blobs model_store/tasks \
    && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/mora/bin/pip install --no-cache-dir --no-deps wheels/*.whl \
    && /opt/mora/bin/pip uninstall --yes pip setuptools \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible -o /opt/mora/sbom.cdx.json /opt/mora/bin/python \
    && find /opt/mora/lib -path '*/numpy/*' -name tests -type d -prune -exec rm -rf {} + \
    && rm -rf /opt/mora/lib/python3*/site-packages/onnx/backend \
        /opt/mora/lib/python3*/site-packages/onnxruntime_ep_openvino/libopenvino_intel_gpu_plugin.so \
        /opt/mora/lib/python3*/site-packages/onnxruntime_ep_openvino/libopenvino_intel_npu_plugin.so \
        /opt/mora/lib/python3*/site-packages/onnxruntime_ep_openvino/cache.json \
    && python3 -m compileall -q /opt/mora/lib

# One layer, without the installers of the base image: package lists, apt, pip, manuals.
FROM base AS runtime
RUN rm -rf /var/cache/* /var/lib/apt /usr/bin/apt* /usr/lib/apt /usr/bin/pip* /usr/local/bin/pip* \
        /usr/share/doc /usr/share/man /usr/share/locale /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/setuptools* /usr/share/python-wheels \
        /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/site-packages/setuptools* /root/.cache \
    && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
COPY --from=build /opt/mora /opt/mora
COPY --chown=10001:10001 model_store/blobs /store/blobs
COPY --chown=10001:10001 model_store/tasks /store/tasks
RUN mkdir /pulled && chown 10001:10001 /store /pulled

FROM scratch
COPY --from=runtime / /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mora-serve" \
      org.opencontainers.image.description="Labels for items whose image or text may be missing" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/mora/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    MORA_HOST=0.0.0.0 \
    MORA_ALLOWED_HOSTS=* \
    MORA_STORE=/store \
    MORA_STORE_CACHE=/pulled \
    MORA_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=10s --start-period=30s --retries=3 CMD ["python3", "-S", "-c", \
    "import os, urllib.request as u; h = os.environ.get('MORA_HOST') or '127.0.0.1'; \
    h = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(h, h); h = '[%s]' % h if ':' in h else h; \
    u.urlopen('http://%s:%s/readyz' % (h, os.environ.get('MORA_PORT', 8000)), timeout=8)"]
ENTRYPOINT ["mora-serve"]
CMD ["run"]
