# SPDX-License-Identifier: Apache-2.0
# The default image has no compiler and no kernel headers; `--target bcc` adds what --loader bcc takes.
# docs/kubernetes.md says how to build and run both.

# Debian 12 or later, or anything on it.
ARG BASE=debian:bookworm-slim

# What both the build and the program stand on: the same Python, so that its wheels fit.
FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libbpf1 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log

FROM python AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        clang libbpf-dev linux-libc-dev make python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY bpf bpf
RUN mkdir -p exporter/kernel && make -C bpf
# Where pip is to look, and a file with the certificates to trust there, if it is another index than
# its own or the way leads through an inspecting proxy: --build-arg, with --volume for the file.
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY . .
# pip stays here; the program's environment has none. Bytecode is compiled for good: the root file
# system of a container may be read-only, and no source in it changes.
RUN python3 -m venv /pip \
    && python3 -m venv --without-pip /opt/netatop-exporter \
    && /pip/bin/pip --python /opt/netatop-exporter/bin/python \
        install --no-cache-dir --no-compile --no-warn-script-location . \
    && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/netatop-exporter/lib

FROM python AS runtime
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="netatop-exporter" \
      org.opencontainers.image.description="Who is using the network on this host: a Prometheus exporter on eBPF socket accounting" \
      org.opencontainers.image.licenses="Apache-2.0 AND (MIT OR GPL-2.0-only)" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/netatop-exporter /opt/netatop-exporter
ENV PATH=/opt/netatop-exporter/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
EXPOSE 10048
STOPSIGNAL SIGTERM
# For docker and podman; Kubernetes asks by itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["netatop-exporter", "status", "--ready"]
ENTRYPOINT ["netatop-exporter"]
CMD ["serve", "--web.listen-address=:10048"]

FROM runtime AS bcc
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-bpfcc \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log

# The last one is what is built without --target.
FROM runtime AS default
