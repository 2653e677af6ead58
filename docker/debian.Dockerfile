# nginx or Prometheus from Debian's packages, for machines that cannot pull the official images.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG PACKAGE
RUN apt-get update && apt-get install -y --no-install-recommends ${PACKAGE} \
    && rm -rf /var/lib/apt/lists/* /etc/nginx/modules-enabled && install -d -o 65534 -g 65534 /prometheus
