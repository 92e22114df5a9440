# Any image of Debian with Python 3.11 or newer and its venv: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update -q && apt-get install -y -q --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
# pip stays here: the hub's environment is filled from outside. What is pinned comes first, it changes seldom.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/mercure-hub
ARG REQUIREMENTS=requirements.txt
COPY requirements*.txt ./
RUN /build/bin/pip install --quiet --require-hashes -r requirements-build.txt \
 && /build/bin/pip --python /opt/mercure-hub/bin/python install --quiet --require-hashes --only-binary :all: -r ${REQUIREMENTS}
COPY . .
# Bytecode without times in it is the same in every build, and the root file system may be read-only.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
 && /build/bin/pip --python /opt/mercure-hub/bin/python install --quiet --no-deps /dist/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/mercure-hub/lib \
 && find /opt/mercure-hub \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete \
 && find /opt/mercure-hub -name '*.so' -exec strip --strip-unneeded {} + \
 && mkdir -m 0700 /data \
 && mkdir /opt/mercure-hub/probes && cp deploy/image/probe /opt/mercure-hub/probes/curl \
 && cp deploy/image/probe /opt/mercure-hub/probes/wget

FROM ${PYTHON_IMAGE}
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="mercure-hub" \
      org.opencontainers.image.description="A hub for the Mercure protocol" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/mercure-hub /opt/mercure-hub
# A new named volume takes over this directory's owner. A number, so that any base image will do.
COPY --from=build --chown=10001:10001 /data /data
# What the Go hub's image has at these places; docs/coming-from-the-go-hub.md.
COPY deploy/image/caddy /usr/bin/caddy
COPY hub/config/caddy/ /etc/caddy/
# A curl or wget of the base comes first. Ports below 1024 are for everybody in a container (Docker 20.10).
ENV PATH=/opt/mercure-hub/bin:$PATH:/opt/mercure-hub/probes PYTHONUNBUFFERED=1 \
    MERCURE_CADDYFILE=/etc/caddy/Caddyfile MERCURE_ADMIN_LISTEN=localhost:2019 MERCURE_TRUSTED_ISSUERS=https://localhost
USER 10001:10001
EXPOSE 80 443
# `live` alone: whoever kills a hub because its store is away drops every stream at once.
HEALTHCHECK --interval=5s --timeout=5s --start-period=5s --retries=3 CMD ["mercure-hub", "health"]
STOPSIGNAL SIGTERM
# No shell in between: the hub is process 1 and gets the signal itself.
ENTRYPOINT ["mercure-hub"]
CMD ["serve"]
