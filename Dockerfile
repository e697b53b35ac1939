# cryptosvc as a container. `docker build .` gives the service; `docker build --target test .` adds SoftHSM, which
# must never be where a live key is. scripts/check-dockerfile runs these steps where there is no container engine.

FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/runtime.lock scripts/multi-buffer /build/
RUN python3 -m venv --copies /opt/cryptosvc \
 && /opt/cryptosvc/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r /build/runtime.lock \
 && /build/multi-buffer /opt/cryptosvc \
 && /opt/cryptosvc/bin/python -m pip uninstall --yes pip setuptools
COPY cryptosvc /opt/cryptosvc/lib/python3.11/site-packages/cryptosvc
RUN printf '#!/bin/sh\nexec /opt/cryptosvc/bin/python -m cryptosvc "$@"\n' > /opt/cryptosvc/bin/cryptosvc \
 && chmod 755 /opt/cryptosvc/bin/cryptosvc \
 && /opt/cryptosvc/bin/python -m compileall -q /opt/cryptosvc/lib

FROM base AS runtime
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/cryptosvc --create-home --shell /usr/sbin/nologin cryptosvc
COPY --from=build /opt/cryptosvc /opt/cryptosvc
COPY policies /etc/cryptosvc/policies
COPY config.example.toml /etc/cryptosvc/config.example.toml
ENV PATH=/opt/cryptosvc/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV CRYPTOSVC_CONFIG=/etc/cryptosvc/cryptosvc.toml
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/cryptosvc
EXPOSE 8443

FROM runtime AS test
RUN apt-get update \
 && apt-get install --yes --no-install-recommends softhsm2 \
 && rm -rf /var/lib/apt/lists/*
USER cryptosvc
ENTRYPOINT ["cryptosvc"]
CMD ["serve"]

FROM runtime AS service
USER cryptosvc
ENTRYPOINT ["cryptosvc"]
CMD ["serve"]
