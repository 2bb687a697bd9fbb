# syntax=docker/dockerfile:1
# The one image: the binary `chat4all`, whose first argument says which role it is. `docker build -t chat4all .`
#
# Nothing secret is in it: settings come from variables (`docs/configuration.md`). The tags are to be pinned by digest where
# images are built for production; here nobody could look one up.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin chat4all && cp target/release/chat4all /chat4all

FROM debian:bookworm-slim
# Certificates of authorities, for calls to providers.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin chat4all
COPY --from=build /chat4all /usr/local/bin/chat4all
USER 10001:10001
ENV CHAT4ALL_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["chat4all"]
CMD ["all"]
