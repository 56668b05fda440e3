# Something to put sidecars beside: an application that answers and one that asks. For compose.yaml and for tests.
#
# docker/build makes the context: what is copied here and nothing else.
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12
FROM ${BASE_IMAGE}

COPY app /usr/local/bin/app

LABEL org.opencontainers.image.title="pilot/app" \
      org.opencontainers.image.description="An application to try the mesh with" \
      org.opencontainers.image.licenses="Apache-2.0"

USER 65534:65534
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/app"]
CMD ["serve", "app", "0.0.0.0:7001", "0.0.0.0:7002"]
