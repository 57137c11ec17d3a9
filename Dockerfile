# Leadsmith as a container image. docs/src/docker.md says how to use it.
#
#   docker build --tag leadsmith .
#   buildah build --format docker --tag leadsmith .   (the OCI format has no HEALTHCHECK)

# Both can be replaced, by a mirror's for example: --build-arg RUST_IMAGE=...
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# What `leadsmith --version` says: the build does not see the repository.
#   --build-arg LEADSMITH_COMMIT=$(git rev-parse HEAD) --build-arg LEADSMITH_COMMIT_DATE=$(git log -1 --format=%cs)
ARG LEADSMITH_COMMIT=
ARG LEADSMITH_COMMIT_DATE=
RUN cargo build --profile dist --locked --bin leadsmith

FROM ${DEBIAN_IMAGE}
# Debian's certificate authorities. Leadsmith brings its own list for the connection to
# PostgreSQL; with sslrootcert=/etc/ssl/certs/ca-certificates.crt in the URL it takes these too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# Nobody but the service may read its database.
RUN groupadd --gid 10001 leadsmith \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home \
       --home-dir /var/lib/leadsmith --shell /usr/sbin/nologin leadsmith \
    && install --directory --owner=leadsmith --group=leadsmith --mode=0700 /var/lib/leadsmith
COPY --from=build /src/target/dist/leadsmith /usr/local/bin/leadsmith

# Without certificates of its own the container speaks no TLS: publish its port to loopback, or set
# LEADSMITH_TLS_CERTIFICATE and LEADSMITH_TLS_KEY and LEADSMITH_INSECURE=false.
ENV LEADSMITH_DATABASE_URL=sqlite:/var/lib/leadsmith/leadsmith.db \
    LEADSMITH_LISTEN=0.0.0.0:50051 \
    LEADSMITH_INSECURE=true
WORKDIR /var/lib/leadsmith
VOLUME /var/lib/leadsmith
EXPOSE 50051
# By number, so that a platform which forbids root can see that it is not.
USER 10001:10001
# Calls under way are finished first, for 25 seconds at most: give the container 30 to stop.
STOPSIGNAL SIGTERM
# It has the settings of the server, and so uses TLS when the server does.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["leadsmith", "healthcheck"]
ENTRYPOINT ["leadsmith"]
CMD ["serve"]
