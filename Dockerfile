# Leadsmith as a container image. docs/src/docker.md says how to use it.
#
#   docker build --tag leadsmith .
#   buildah build --format docker --layers --tag leadsmith .   (the OCI format has no HEALTHCHECK)

# Both can be replaced, by a mirror's for example: --build-arg RUST_IMAGE=...
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12

# The manifests alone, with empty sources. This changes only when a dependency does.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' \
      ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path ./tests/it/main.rs ! -name build.rs -delete \
    && echo 'fn main() {}' >/tmp/main.rs \
    && find . -name '*.rs' -exec cp /tmp/main.rs {} \; \
    && find . -type d -empty -delete

FROM ${RUST_IMAGE} AS build
WORKDIR /src
# The dependencies: as long as the manifests are the same, this layer is taken from the cache.
COPY --from=manifests /src .
RUN cargo build --profile dist --locked --bin leadsmith
COPY . .
# What `leadsmith --version` says: the build does not see the repository.
#   --build-arg LEADSMITH_COMMIT=$(git rev-parse HEAD) --build-arg LEADSMITH_COMMIT_DATE=$(git log -1 --format=%cs)
ARG LEADSMITH_COMMIT=
ARG LEADSMITH_COMMIT_DATE=
# cargo compares times: the sources must be newer than what was built from the empty ones.
RUN find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --profile dist --locked --bin leadsmith \
    # The data of SQLite. Nobody but the service may read it.
    && install --directory --mode=0700 /out/data

# The C library, time zones and Debian's certificate authorities: no shell, no package manager. Leadsmith brings its own
# list of authorities for the connection to PostgreSQL; with sslrootcert=/etc/ssl/certs/ca-certificates.crt in the URL
# it takes these too.
FROM ${BASE_IMAGE}
ARG LEADSMITH_COMMIT=
LABEL org.opencontainers.image.title="Leadsmith" \
      org.opencontainers.image.description="The life of a sales lead as a gRPC service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${LEADSMITH_COMMIT}"
COPY --from=build /src/target/dist/leadsmith /usr/local/bin/leadsmith
COPY --from=build --chown=10001:10001 --chmod=0700 /out/data /var/lib/leadsmith

# Without certificates of its own the container speaks no TLS: publish its port to loopback, or set
# LEADSMITH_TLS_CERTIFICATE and LEADSMITH_TLS_KEY and LEADSMITH_INSECURE=false.
ENV LEADSMITH_LISTEN=0.0.0.0:50051 \
    LEADSMITH_INSECURE=true
# Without a database URL, the database is leadsmith.db in this folder: mount a volume here.
WORKDIR /var/lib/leadsmith
EXPOSE 50051
# By number, so that a platform which forbids root can see that it is not.
USER 10001:10001
# Calls under way are finished first, for 25 seconds at most: give the container 30 to stop.
STOPSIGNAL SIGTERM
# It has the settings of the server, and so uses TLS when the server does.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/leadsmith", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/leadsmith"]
CMD ["serve"]
