# The query server. Build: docker build -t priorart . ; run:
#   docker run --read-only --cap-drop ALL -p 127.0.0.1:8080:8080 -v /data/index:/index:ro priorart
# Neighbours and novelty need the encoder: mount the model's cache, too: -v /data/cache:/cache:ro
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin priorart

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home priorart
COPY --from=build /src/target/release/priorart /usr/local/bin/priorart
USER 10001
ENV PRIORART_CACHE=/cache PRIORART_HOST=0.0.0.0 PRIORART_PORT=8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["priorart", "serve"]
CMD ["--index", "/index"]
